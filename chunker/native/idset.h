/* Tables over ids of 16 random bytes: a map that is exact, and a filter that is small.  No Python here.
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

/* A Bloom filter of blocks of 32 bytes: an id sets one bit in each of a block's eight words.  (Putze, Sanders, Singler:
 * "Cache-, Hash- and Space-Efficient Bloom Filters", 2007.)  At 12 bits for each id about one stranger in a hundred passes. */
typedef struct {
    uint32_t (*blocks)[8];
    size_t count; /* a power of two */
} id_filter;

void id_filter_add(id_filter *filter, const uint8_t *id);
int id_filter_may_have(const id_filter *filter, const uint8_t *id);

int id_is_zero(const uint8_t *id);

#endif
