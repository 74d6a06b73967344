/* The compression function over LANES lanes; included by one file per vector unit, which defines
 *
 *     LANES, vec                             lanes, and a vector of as many 32-bit words
 *     ADD XOR ROR16 ROR12 ROR8 ROR7          on vectors
 *     SPLAT(x) LOAD(p) STORE(p, v)           one word in all lanes; LANES words at p
 *     SELECT(mask, a, b)                     per lane b where the mask's bit is set, else a
 *     TRANSPOSE_IN(m, p)                     m[w] lane l = word w of the 64 bytes at p[l]
 *     TARGET                                 the function attribute that allows the instructions
 */

static const uint8_t schedule[7][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8},
    {3, 4, 10, 12, 13, 2, 7, 14, 6, 5, 9, 0, 11, 15, 8, 1}, {10, 7, 12, 9, 14, 3, 13, 15, 4, 0, 11, 2, 5, 8, 1, 6},
    {12, 13, 9, 11, 15, 10, 14, 8, 7, 2, 5, 3, 0, 1, 6, 4}, {9, 14, 11, 5, 8, 12, 15, 1, 13, 3, 0, 10, 2, 6, 4, 7},
    {11, 15, 5, 0, 1, 9, 8, 6, 14, 10, 2, 12, 3, 4, 7, 13}};

#define MIX(a, b, c, d, x, y)                                                                                          \
    do {                                                                                                               \
        v[a] = ADD(v[a], ADD(v[b], m[x]));                                                                             \
        v[d] = ROR16(XOR(v[d], v[a]));                                                                                 \
        v[c] = ADD(v[c], v[d]);                                                                                        \
        v[b] = ROR12(XOR(v[b], v[c]));                                                                                 \
        v[a] = ADD(v[a], ADD(v[b], m[y]));                                                                             \
        v[d] = ROR8(XOR(v[d], v[a]));                                                                                  \
        v[c] = ADD(v[c], v[d]);                                                                                        \
        v[b] = ROR7(XOR(v[b], v[c]));                                                                                  \
    } while (0)

/* The four columns, then the four diagonals, each step over all four: neighbours do not wait for each other. */
#define ROUND(r)                                                                                                       \
    do {                                                                                                               \
        MIX(0, 4, 8, 12, schedule[r][0], schedule[r][1]);                                                              \
        MIX(1, 5, 9, 13, schedule[r][2], schedule[r][3]);                                                              \
        MIX(2, 6, 10, 14, schedule[r][4], schedule[r][5]);                                                             \
        MIX(3, 7, 11, 15, schedule[r][6], schedule[r][7]);                                                             \
        MIX(0, 5, 10, 15, schedule[r][8], schedule[r][9]);                                                             \
        MIX(1, 6, 11, 12, schedule[r][10], schedule[r][11]);                                                           \
        MIX(2, 7, 8, 13, schedule[r][12], schedule[r][13]);                                                            \
        MIX(3, 4, 9, 14, schedule[r][14], schedule[r][15]);                                                            \
    } while (0)

/* h: the chaining values, one word of all lanes each. */
TARGET static inline __attribute__((always_inline)) void compress(vec h[8], const uint8_t *const blocks[LANES], vec low, vec high,
                                                                  vec length, vec flags)
{
    vec v[16], m[16];
    int i;

    TRANSPOSE_IN(m, blocks);
    for (i = 0; i < 8; i++)
        v[i] = h[i];
    for (i = 0; i < 4; i++)
        v[8 + i] = SPLAT(b3_iv[i]);
    v[12] = low;
    v[13] = high;
    v[14] = length;
    v[15] = flags;
    ROUND(0);
    ROUND(1);
    ROUND(2);
    ROUND(3);
    ROUND(4);
    ROUND(5);
    ROUND(6);
    for (i = 0; i < 8; i++)
        h[i] = XOR(v[i], v[8 + i]);
}

TARGET static inline __attribute__((always_inline)) void begin(vec h[8], const uint32_t key[8])
{
    int i;

    for (i = 0; i < 8; i++)
        h[i] = SPLAT(key[i]);
}

/* Only now are the results written: they may lie where the inputs did. */
TARGET static void finish(const vec h[8], const b3_job *jobs, unsigned count)
{
    uint32_t words[8][LANES];
    unsigned lane;
    int i;

    for (i = 0; i < 8; i++)
        STORE(words[i], h[i]);
    for (lane = 0; lane < count; lane++)
        for (i = 0; i < 8; i++)
            jobs[lane].out[i] = words[i][lane];
}

/* Lanes without work of their own do that of lane 0 once more. */
static const b3_job *job_of(const b3_job *jobs, unsigned count, unsigned lane)
{
    return &jobs[lane < count ? lane : 0];
}

TARGET static void leaves(const uint32_t key[8], const b3_job *jobs, unsigned count)
{
    const uint8_t *at[LANES];
    uint32_t low[LANES], high[LANES];
    vec h[8], lows, highs;
    unsigned lane;
    int block;

    for (lane = 0; lane < LANES; lane++) {
        const b3_job *job = job_of(jobs, count, lane);

        at[lane] = job->data;
        low[lane] = (uint32_t)job->counter;
        high[lane] = (uint32_t)(job->counter >> 32);
    }
    lows = LOAD(low);
    highs = LOAD(high);
    begin(h, key);
    for (block = 0; block < B3_LEAF / B3_BLOCK; block++) {
        const unsigned flags = B3_KEYED | (block == 0 ? B3_CHUNK_START : 0) | (block == 15 ? B3_CHUNK_END : 0);

        /* The leaves of the next call mostly follow these; so many streams are too many for the machine to foresee. */
        for (lane = 0; lane < LANES; lane++)
            __builtin_prefetch((const void *)((uintptr_t)at[lane] + LANES * B3_LEAF), 0, 2);
        compress(h, at, lows, highs, SPLAT(B3_BLOCK), SPLAT(flags));
        for (lane = 0; lane < LANES; lane++)
            at[lane] += B3_BLOCK;
    }
    finish(h, jobs, count);
}

TARGET static void ragged(const uint32_t key[8], const b3_job *jobs, unsigned count)
{
    uint8_t tails[LANES][B3_BLOCK];
    const uint8_t *at[LANES];
    uint32_t low[LANES], high[LANES], length[LANES], flags[LANES];
    unsigned blocks[LANES], most = 0, block, lane;
    vec h[8], lows, highs;
    int i;

    for (lane = 0; lane < LANES; lane++) {
        const b3_job *job = job_of(jobs, count, lane);
        const unsigned whole = job->size / B3_BLOCK, rest = job->size % B3_BLOCK;

        blocks[lane] = job->size == 0 ? 1 : whole + (rest != 0);
        if (blocks[lane] > most)
            most = blocks[lane];
        low[lane] = (uint32_t)job->counter;
        high[lane] = (uint32_t)(job->counter >> 32);
        memset(tails[lane], 0, B3_BLOCK);
        if (rest != 0)
            memcpy(tails[lane], job->data + whole * B3_BLOCK, rest);
    }
    lows = LOAD(low);
    highs = LOAD(high);
    begin(h, key);
    for (block = 0; block < most; block++) {
        vec g[8];
        unsigned working = 0;

        for (lane = 0; lane < LANES; lane++) {
            const b3_job *job = job_of(jobs, count, lane);
            const unsigned left = job->size > block * B3_BLOCK ? job->size - block * B3_BLOCK : 0;

            at[lane] = left >= B3_BLOCK ? job->data + block * B3_BLOCK : tails[lane];
            length[lane] = left < B3_BLOCK ? left : B3_BLOCK;
            flags[lane] = B3_KEYED | (block == 0 ? B3_CHUNK_START : 0) |
                          (block + 1 == blocks[lane] ? B3_CHUNK_END | (unsigned)job->flags : 0);
            working |= (unsigned)(block < blocks[lane]) << lane;
        }
        memcpy(g, h, sizeof g);
        compress(g, at, lows, highs, LOAD(length), LOAD(flags));
        for (i = 0; i < 8; i++)
            h[i] = SELECT(working, h[i], g[i]);
    }
    finish(h, jobs, count);
}

TARGET static void parents(const uint32_t key[8], const b3_job *jobs, unsigned count)
{
    const uint8_t *at[LANES];
    uint32_t flags[LANES];
    vec h[8];
    unsigned lane;

    for (lane = 0; lane < LANES; lane++) {
        const b3_job *job = job_of(jobs, count, lane);

        at[lane] = job->data;
        flags[lane] = B3_KEYED | B3_PARENT | (unsigned)job->flags;
    }
    begin(h, key);
    compress(h, at, SPLAT(0), SPLAT(0), SPLAT(B3_BLOCK), LOAD(flags));
    finish(h, jobs, count);
}
