/* The map against a list that is searched from end to end. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "idset.h"

enum { MOST = 3000 };

/* Ids that meet: few of them, in few slots; or as many as there are; or none. */
static void random_id(uint8_t id[ID], int kind)
{
    fill_random(id, ID);
    if (kind == 0) {
        memset(id, 0, ID);
        id[0] = (uint8_t)dice(4);
        id[ID - 1] = (uint8_t)dice(4);
    } else if (kind == 1) {
        memset(id, 0xff, 8); /* all in the last slot, and then around the corner */
        id[8] &= 15;
        memset(id + 9, 7, 7);
    }
}

void fuzz_idset(void)
{
    const int kind = (int)dice(3);
    const unsigned count = kind == 2 && dice(8) == 0 ? MOST : (unsigned)dice(200);
    uint8_t(*known)[ID] = malloc(MOST * ID), id[ID];
    uint32_t values[MOST];
    id_map map = {NULL, NULL, 0, 0};
    unsigned used = 0, round, i;

    EXPECT(known != NULL);
    random_id(id, 2);
    EXPECT(id_map_get(&map, id) == NULL);
    for (round = 0; round < count; round++) {
        const uint32_t value = (uint32_t)dice(UINT64_C(1) << 32);
        const uint32_t *found;

        random_id(id, kind);
        for (i = 0; i < used && memcmp(known[i], id, ID) != 0; i++)
            ;
        found = id_map_get(&map, id);
        EXPECT((found != NULL) == (i < used));
        EXPECT(found == NULL || *found == values[i]);
        if (id_is_zero(id)) {
            EXPECT(id_map_add(&map, id, value) == 0);
            continue;
        }
        EXPECT(id_map_add(&map, id, value) == (i == used));
        if (i == used) {
            memcpy(known[used], id, ID);
            values[used++] = value;
        }
        EXPECT(map.used == used);
    }
    for (i = 0; i < used; i++) {
        const uint32_t *found = id_map_get(&map, known[i]);

        EXPECT(found != NULL && *found == values[i]);
    }
    for (i = 0; i < 200; i++) {
        fill_random(id, ID);
        EXPECT(id_map_get(&map, id) == NULL);
    }
    id_map_clear(&map);
    EXPECT(id_map_get(&map, id) == NULL);
    free(known);
}
