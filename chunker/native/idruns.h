/* Runs: ids in order, each with the place where its chunk lies.  No Python here.
 *
 * A run is two arrays in memory that somebody else keeps (a file that is mapped, for one): *count* ids of 16 bytes, ascending, and
 * as many places: u32 pack, u32 chunk, little-endian, both opaque here.  Ids are outputs of a keyed hash, so they are spread
 * evenly: where one must lie is calculated, and looked for from there.
 */
#ifndef STRANDLINE_IDRUNS_H
#define STRANDLINE_IDRUNS_H

#include <stddef.h>
#include <stdint.h>

enum { RUN_ID = 16, RUN_PLACE = 8, RUN_ROW = RUN_ID + RUN_PLACE };

typedef struct {
    const uint8_t *ids;
    const uint8_t *places;
    size_t count; /* below 2^32 */
} id_run;

/* The place of id, or NULL. */
const uint8_t *id_run_find(const id_run *run, const uint8_t *id);

/* Put rows (id, then place), *count* of them, into the order of their ids; of equal ones only that with the largest place stays.
 * Return how many there are. */
size_t id_rows_sort(uint8_t *rows, size_t count);

/* Write what is in either run to *ids* and *places*, which have room for both; return how many there are.  Of one id, the newer run's
 * place counts.  Rows whose pack is below *packs* and has live[pack] == 0, or is not below, are left out. */
size_t id_runs_merge(const id_run *older, const id_run *newer, const uint8_t *live, size_t packs, uint8_t *ids,
                     uint8_t *places);

#endif
