#include "idruns.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t *id_at(const id_run *run, size_t number)
{
    return run->ids + RUN_ID * number;
}

static uint32_t big_u32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static uint32_t little_u32(const uint8_t *p)
{
    return (uint32_t)p[3] << 24 | (uint32_t)p[2] << 16 | (uint32_t)p[1] << 8 | p[0];
}

const uint8_t *id_run_find(const id_run *run, const uint8_t *id)
{
    size_t low = 0, high = run->count, step = 1, guess;

    if (run->count == 0)
        return NULL;
    /* The first byte says little: a run holds the ids of one bucket. */
    guess = (size_t)(((uint64_t)big_u32(id + 1) * run->count) >> 32);
    if (memcmp(id_at(run, guess), id, RUN_ID) < 0) {
        low = guess + 1;
        while (low + step < high && memcmp(id_at(run, low + step), id, RUN_ID) < 0) {
            low += step + 1;
            step *= 2;
        }
        if (low + step < high)
            high = low + step + 1;
    } else {
        high = guess + 1;
        while (high > step && memcmp(id_at(run, high - step - 1), id, RUN_ID) >= 0) {
            high -= step;
            step *= 2;
        }
        if (high > step)
            low = high - step;
    }
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = memcmp(id_at(run, middle), id, RUN_ID);

        if (order == 0)
            return run->places + RUN_PLACE * middle;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

static int by_id(const void *a, const void *b)
{
    const int order = memcmp(a, b, RUN_ID);

    if (order != 0)
        return order;
    /* Packs are numbered upwards: what is larger came later. */
    if (little_u32((const uint8_t *)a + RUN_ID) != little_u32((const uint8_t *)b + RUN_ID))
        return little_u32((const uint8_t *)a + RUN_ID) < little_u32((const uint8_t *)b + RUN_ID) ? -1 : 1;
    return little_u32((const uint8_t *)a + RUN_ID + 4) < little_u32((const uint8_t *)b + RUN_ID + 4) ? -1 : 1;
}

size_t id_rows_sort(uint8_t *rows, size_t count)
{
    size_t i, kept = 0;

    qsort(rows, count, RUN_ROW, by_id);
    for (i = 0; i < count; i++)
        if (i + 1 == count || memcmp(rows + RUN_ROW * i, rows + RUN_ROW * (i + 1), RUN_ID) != 0)
            memmove(rows + RUN_ROW * kept++, rows + RUN_ROW * i, RUN_ROW);
    return kept;
}

static int is_live(const uint8_t *place, const uint8_t *live, size_t packs)
{
    const uint32_t pack = little_u32(place);

    return pack < packs && live[pack] != 0;
}

size_t id_runs_merge(const id_run *older, const id_run *newer, const uint8_t *live, size_t packs, uint8_t *ids,
                     uint8_t *places)
{
    size_t a = 0, b = 0, count = 0;

    while (a < older->count || b < newer->count) {
        int order = a == older->count ? 1 : b == newer->count ? -1 : memcmp(id_at(older, a), id_at(newer, b), RUN_ID);
        const id_run *run = order < 0 ? older : newer;
        size_t *at = order < 0 ? &a : &b;

        if (order == 0 && !is_live(newer->places + RUN_PLACE * b, live, packs)) {
            run = older;
            at = &a;
        }
        if (is_live(run->places + RUN_PLACE * *at, live, packs)) {
            memcpy(ids + RUN_ID * count, id_at(run, *at), RUN_ID);
            memcpy(places + RUN_PLACE * count, run->places + RUN_PLACE * *at, RUN_PLACE);
            count++;
        }
        if (order == 0) {
            a++;
            b++;
        } else {
            ++*at;
        }
    }
    return count;
}
