#include "idset.h"

#include <stdlib.h>
#include <string.h>

static uint64_t word(const uint8_t *p)
{
    uint64_t value;

    memcpy(&value, p, sizeof value);
    return value;
}

int id_is_zero(const uint8_t *id)
{
    return (word(id) | word(id + 8)) == 0;
}

static int same(const uint8_t *a, const uint8_t *b)
{
    return word(a) == word(b) && word(a + 8) == word(b + 8);
}

/* The slot that holds id, or the free one where it would go. */
static size_t slot_of(const id_map *map, const uint8_t *id)
{
    size_t slot = (size_t)word(id) & (map->slots - 1);

    while (!id_is_zero(map->ids[slot]) && !same(map->ids[slot], id))
        slot = (slot + 1) & (map->slots - 1);
    return slot;
}

static int grow(id_map *map)
{
    id_map larger = {NULL, NULL, map->slots != 0 ? 2 * map->slots : 1024, map->used};
    size_t i;

    if (larger.slots > SIZE_MAX / (2 * ID))
        return -1;
    larger.ids = calloc(larger.slots, ID);
    larger.values = calloc(larger.slots, sizeof *larger.values);
    if (larger.ids == NULL || larger.values == NULL) {
        free(larger.ids);
        free(larger.values);
        return -1;
    }
    for (i = 0; i < map->slots; i++)
        if (!id_is_zero(map->ids[i])) {
            const size_t slot = slot_of(&larger, map->ids[i]);

            memcpy(larger.ids[slot], map->ids[i], ID);
            larger.values[slot] = map->values[i];
        }
    free(map->ids);
    free(map->values);
    *map = larger;
    return 0;
}

int id_map_add(id_map *map, const uint8_t *id, uint32_t value)
{
    size_t slot;

    if (id_is_zero(id))
        return 0;
    if (map->used >= map->slots / 4 * 3 && grow(map) < 0)
        return -1;
    slot = slot_of(map, id);
    if (!id_is_zero(map->ids[slot]))
        return 0;
    memcpy(map->ids[slot], id, ID);
    map->values[slot] = value;
    map->used++;
    return 1;
}

const uint32_t *id_map_get(const id_map *map, const uint8_t *id)
{
    size_t slot;

    if (map->used == 0 || id_is_zero(id))
        return NULL;
    slot = slot_of(map, id);
    return id_is_zero(map->ids[slot]) ? NULL : &map->values[slot];
}

void id_map_clear(id_map *map)
{
    free(map->ids);
    free(map->values);
    memset(map, 0, sizeof *map);
}
