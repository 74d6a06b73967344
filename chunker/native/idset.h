/* A map from ids of 16 random bytes to numbers.  No Python here.
 *
 * Ids are outputs of a keyed hash, so their bits are used as they are.  The id of sixteen zero bytes (a hole) is never entered.
 */
#ifndef STRANDLINE_IDSET_H
#define STRANDLINE_IDSET_H

#include <stddef.h>
#include <stdint.h>

enum { ID = 16 };

/* Open addressing with linear probing; a slot whose id is zero is free.  At most three quarters are in use. */
typedef struct {
    uint8_t (*ids)[ID];
    uint32_t *values;
    size_t slots; /* a power of two, or 0 */
    size_t used;
} id_map;

/* Enter id with *value*: 1, or 0 if it was there already and keeps its value, or -1 if there is no memory. */
int id_map_add(id_map *map, const uint8_t *id, uint32_t value);
/* The value of id, or NULL. */
const uint32_t *id_map_get(const id_map *map, const uint8_t *id);
void id_map_clear(id_map *map);

int id_is_zero(const uint8_t *id);

#endif
