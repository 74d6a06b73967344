/* Which leaves and parents are hashed together: the walk over a buffer's chunks. */
#include "blake3.h"

#include <string.h>

const uint32_t b3_iv[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};

/* Leaves in work at the same time, and the largest part of a chunk that is reduced to one value by itself: a power of two, so
 * that every part but a chunk's last is a complete subtree. */
enum { PART = 128, ROOM = 4 * PART };

/* A part of a chunk in work: its values lie at first .. first + count of a level. */
typedef struct {
    uint32_t first, count;
    uint32_t *out;
    int root; /* it is the whole chunk */
} part;

typedef struct {
    const b3_kernel *kernel;
    const uint32_t *key;
    uint32_t nodes[2][ROOM][8]; /* a level, and the level above it */
    uint32_t used;              /* nodes */
    part parts[ROOM];
    uint32_t open; /* parts */
    b3_job full[B3_MOST_LANES];
    uint32_t fulls;
    b3_job cut[ROOM]; /* short leaves, by their blocks when they are hashed */
    uint32_t cuts;
} work;

/* What sl_name asks its caller for: the work, and the values of the longest chunk's parts. */
typedef struct {
    work w;
    uint32_t tops[][8];
} scratch_layout;

size_t sl_name_scratch(size_t longest)
{
    return sizeof(scratch_layout) + (longest / ((size_t)PART * B3_LEAF) + 1) * sizeof(uint32_t[8]);
}

int sl_is_zero(const uint8_t *data, size_t size)
{
    size_t at = 0;

    if (size == 0 || data[0] != 0 || data[size - 1] != 0)
        return 0;
    /* 512 bytes without a branch: compilers turn this into vector code. */
    for (; at + 512 <= size; at += 512) {
        uint64_t any = 0;
        int i;

        for (i = 0; i < 64; i++) {
            uint64_t word;

            memcpy(&word, data + at + 8 * i, sizeof word);
            any |= word;
        }
        if (any != 0)
            return 0;
    }
    for (; at < size; at++)
        if (data[at] != 0)
            return 0;
    return 1;
}

static void flush_full(work *w)
{
    if (w->fulls != 0)
        w->kernel->leaves(w->key, w->full, w->fulls);
    w->fulls = 0;
}

static unsigned blocks_of(const b3_job *job)
{
    return job->size == 0 ? 0 : (job->size - 1u) / B3_BLOCK;
}

/* Hash the short leaves, those of similar length together. */
static void flush_cut(work *w)
{
    b3_job sorted[ROOM];
    uint32_t place[B3_LEAF / B3_BLOCK + 1] = {0}, i;

    for (i = 0; i < w->cuts; i++)
        place[blocks_of(&w->cut[i]) + 1]++;
    for (i = 1; i <= B3_LEAF / B3_BLOCK; i++)
        place[i] += place[i - 1];
    for (i = 0; i < w->cuts; i++)
        sorted[place[blocks_of(&w->cut[i])]++] = w->cut[i];
    for (i = 0; i < w->cuts; i += w->kernel->lanes) {
        const uint32_t left = w->cuts - i;

        w->kernel->ragged(w->key, sorted + i, left < w->kernel->lanes ? left : w->kernel->lanes);
    }
    w->cuts = 0;
}

/* Pair the values of every part, level by level, until each is one; return the level.  What has no neighbour goes up as it is. */
static uint32_t (*reduce(work *w))[8]
{
    uint32_t(*now)[8] = w->nodes[0], (*above)[8] = w->nodes[1], (*swap)[8];
    b3_job jobs[B3_MOST_LANES];
    int more = 1;

    while (more) {
        uint32_t i, k, pending = 0;

        more = 0;
        for (i = 0; i < w->open; i++) {
            part *p = &w->parts[i];

            for (k = 0; k + 1 < p->count; k += 2) {
                b3_job *job = &jobs[pending++];

                job->data = (const uint8_t *)now[p->first + k];
                job->out = above[p->first + k / 2];
                job->flags = p->root && p->count == 2 ? B3_ROOT : 0;
                if (pending == w->kernel->lanes) {
                    w->kernel->parents(w->key, jobs, pending);
                    pending = 0;
                }
            }
            if (p->count & 1)
                memcpy(above[p->first + p->count / 2], now[p->first + p->count - 1], sizeof now[0]);
            p->count = (p->count + 1) / 2;
            more |= p->count > 1;
        }
        if (pending != 0)
            w->kernel->parents(w->key, jobs, pending);
        swap = now;
        now = above;
        above = swap;
    }
    return now;
}

/* Finish everything in work and hand the values out. */
static void flush(work *w)
{
    uint32_t(*top)[8], i;

    flush_full(w);
    flush_cut(w);
    top = reduce(w);
    for (i = 0; i < w->open; i++)
        memcpy(w->parts[i].out, top[w->parts[i].first], sizeof top[0]);
    w->used = w->open = 0;
}

/* Take in part of a chunk, at most PART leaves, whose first leaf is number *counter*; its value will be at *out*. */
static void take(work *w, const uint8_t *data, size_t size, uint64_t counter, int root, uint32_t *out)
{
    const uint32_t count = size == 0 ? 1 : (uint32_t)((size + B3_LEAF - 1) / B3_LEAF);
    part *p;
    uint32_t i;

    if (w->used + count > ROOM || w->open == ROOM || w->cuts == ROOM)
        flush(w);
    p = &w->parts[w->open++];
    p->first = w->used;
    p->count = count;
    p->root = root;
    p->out = out;
    w->used += count;
    for (i = 0; i < count; i++) {
        const size_t left = size - (size_t)i * B3_LEAF;
        b3_job *job;

        if (left >= B3_LEAF && !(root && count == 1)) {
            job = &w->full[w->fulls++];
            job->size = B3_LEAF;
        } else {
            job = &w->cut[w->cuts++];
            job->size = (uint16_t)(left < B3_LEAF ? left : B3_LEAF);
        }
        job->data = data + (size_t)i * B3_LEAF;
        job->counter = counter + i;
        job->out = w->nodes[0][p->first + i];
        job->flags = root && count == 1 ? B3_ROOT : 0;
        if (w->fulls == w->kernel->lanes)
            flush_full(w);
    }
}

static void store_id(uint8_t *id, const uint32_t words[8])
{
    int i;

    for (i = 0; i < SL_ID; i++)
        id[i] = (uint8_t)(words[i / 4] >> (8 * (i % 4)));
}

/* A chunk of more than one part: each by itself, then their values like leaves of a smaller tree. */
static void name_large(work *w, uint32_t (*tops)[8], const uint8_t *data, size_t size, uint8_t *id)
{
    const size_t span = (size_t)PART * B3_LEAF, count = (size + span - 1) / span;
    b3_job jobs[B3_MOST_LANES];
    size_t i, n;

    for (i = 0; i < count; i++)
        take(w, data + i * span, i + 1 < count ? span : size - i * span, (uint64_t)i * PART, 0, tops[i]);
    flush(w);
    for (n = count; n > 1; n = (n + 1) / 2) {
        unsigned pending = 0;

        for (i = 0; i + 1 < n; i += 2) {
            b3_job *job = &jobs[pending++];

            job->data = (const uint8_t *)tops[i];
            job->out = tops[i / 2];
            job->flags = n == 2 ? B3_ROOT : 0;
            if (pending == w->kernel->lanes || i + 3 >= n) {
                w->kernel->parents(w->key, jobs, pending);
                pending = 0;
            }
        }
        if (n & 1)
            memmove(tops[n / 2], tops[n - 1], sizeof tops[0]);
    }
    store_id(id, tops[0]);
}

void sl_name(const b3_kernel *kernel, const uint32_t key[8], const uint8_t *data, const uint64_t *ends, size_t count,
             uint8_t *ids, void *scratch)
{
    scratch_layout *s = scratch;
    work *w = &s->w;
    /* The values of small chunks, until they are ids.  Every chunk takes a part at least, so they are ROOM at most. */
    uint32_t values[ROOM][8];
    size_t waiting[ROOM], waits = 0, i, k;
    uint64_t start = 0;

    w->kernel = kernel;
    w->key = key;
    w->used = w->open = w->fulls = w->cuts = 0;
    for (i = 0; i < count; i++) {
        const uint8_t *chunk = data + start;
        const size_t size = (size_t)(ends[i] - start);

        start = ends[i];
        if (sl_is_zero(chunk, size)) {
            memset(ids + SL_ID * i, 0, SL_ID);
            continue;
        }
        if (size > (size_t)PART * B3_LEAF) {
            name_large(w, s->tops, chunk, size, ids + SL_ID * i); /* it flushes: those that wait have their values, too */
            continue;
        }
        if (waits == ROOM) {
            flush(w);
            for (k = 0; k < waits; k++)
                store_id(ids + SL_ID * waiting[k], values[k]);
            waits = 0;
        }
        take(w, chunk, size, 0, 1, values[waits]);
        waiting[waits++] = i;
    }
    flush(w);
    for (k = 0; k < waits; k++)
        store_id(ids + SL_ID * waiting[k], values[k]);
}

#if defined(__GNUC__) && defined(__x86_64__)
extern const b3_kernel b3_avx2, b3_avx512;
#endif

const b3_kernel *const b3_kernels[] = {
#if defined(__GNUC__) && defined(__x86_64__)
    &b3_avx2, &b3_avx512,
#endif
    NULL};
