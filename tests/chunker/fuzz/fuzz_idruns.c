/* Runs against lists that are searched from end to end. */
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

#include "idruns.h"

enum { MOST = 400, PACKS = 12 };

typedef struct {
    uint8_t rows[MOST * RUN_ROW];
    size_t count;
} rows;

/* Ids that meet, ids that are spread, and ids that lie all at one end. */
static void random_row(uint8_t *row, int kind)
{
    fill_random(row, RUN_ROW);
    if (kind == 0)
        memset(row, 0, RUN_ID - 1);
    else if (kind == 1)
        memset(row + 1, dice(2) ? 0xff : 0, 8);
    row[RUN_ID] = (uint8_t)dice(PACKS);
    memset(row + RUN_ID + 1, 0, 3);
}

static uint32_t pack_of(const uint8_t *place)
{
    return place[0] | (uint32_t)place[1] << 8 | (uint32_t)place[2] << 16 | (uint32_t)place[3] << 24;
}

static uint64_t rank_of(const uint8_t *place)
{
    return (uint64_t)pack_of(place) << 32 | pack_of(place + 4);
}

static const uint8_t *place_in(const rows *all, const uint8_t *id)
{
    const uint8_t *found = NULL;
    size_t i;

    for (i = 0; i < all->count; i++) {
        const uint8_t *row = all->rows + RUN_ROW * i;

        if (memcmp(row, id, RUN_ID) == 0 && (found == NULL || rank_of(found) < rank_of(row + RUN_ID)))
            found = row + RUN_ID;
    }
    return found;
}

/* A run of the rows, in memory of its own, not a byte more than it needs. */
static id_run sorted(const rows *all)
{
    uint8_t *copy = exactly(RUN_ROW * all->count, 0), *ids, *places;
    id_run run;
    size_t i;

    memcpy(copy, all->rows, RUN_ROW * all->count);
    run.count = id_rows_sort(copy, all->count);
    run.ids = ids = exactly(RUN_ID * run.count, 0);
    run.places = places = exactly(RUN_PLACE * run.count, 0);
    for (i = 0; i < run.count; i++) {
        memcpy(ids + RUN_ID * i, copy + RUN_ROW * i, RUN_ID);
        memcpy(places + RUN_PLACE * i, copy + RUN_ROW * i + RUN_ID, RUN_PLACE);
        EXPECT(i == 0 || memcmp(ids + RUN_ID * (i - 1), ids + RUN_ID * i, RUN_ID) < 0);
    }
    give_back(copy, 0);
    return run;
}

static void drop(id_run *run)
{
    give_back((uint8_t *)run->ids, 0);
    give_back((uint8_t *)run->places, 0);
}

static int lives(const uint8_t *place, const uint8_t *live, size_t packs)
{
    return place != NULL && pack_of(place) < packs && live[pack_of(place)] != 0;
}

void fuzz_idruns(void)
{
    const int kind = (int)dice(3);
    rows all[2];
    id_run run[2], merged;
    uint8_t live[PACKS], *ids, *places, id[RUN_ROW];
    const size_t packs = dice(PACKS + 1);
    size_t i, k;

    for (k = 0; k < 2; k++) {
        all[k].count = dice(dice(4) == 0 ? MOST : 12);
        for (i = 0; i < all[k].count; i++)
            random_row(all[k].rows + RUN_ROW * i, kind);
        run[k] = sorted(&all[k]);
    }
    for (k = 0; k < 2; k++) {
        for (i = 0; i < all[k].count; i++) {
            const uint8_t *row = all[k].rows + RUN_ROW * i, *found = id_run_find(&run[k], row);

            EXPECT(found != NULL && memcmp(found, place_in(&all[k], row), RUN_PLACE) == 0);
        }
        for (i = 0; i < 100; i++) {
            const uint8_t *there;

            random_row(id, kind);
            there = id_run_find(&run[k], id);
            EXPECT((there != NULL) == (place_in(&all[k], id) != NULL));
        }
    }
    for (i = 0; i < PACKS; i++)
        live[i] = (uint8_t)dice(2);
    ids = exactly(RUN_ID * (run[0].count + run[1].count), 0);
    places = exactly(RUN_PLACE * (run[0].count + run[1].count), 0);
    merged.ids = ids;
    merged.places = places;
    merged.count = id_runs_merge(&run[0], &run[1], live, packs, ids, places);
    for (k = 0; k < 2; k++)
        for (i = 0; i < all[k].count; i++) {
            const uint8_t *row = all[k].rows + RUN_ROW * i, *newer = place_in(&all[1], row), *older = place_in(&all[0], row);
            const uint8_t *wanted = lives(newer, live, packs) ? newer : lives(older, live, packs) ? older : NULL;
            const uint8_t *found = id_run_find(&merged, row);

            EXPECT((found == NULL) == (wanted == NULL));
            EXPECT(found == NULL || memcmp(found, wanted, RUN_PLACE) == 0);
        }
    for (i = 0; i < merged.count; i++)
        EXPECT(i == 0 || memcmp(merged.ids + RUN_ID * (i - 1), merged.ids + RUN_ID * i, RUN_ID) < 0);
    drop(&run[0]);
    drop(&run[1]);
    give_back(ids, 0);
    give_back(places, 0);
}
