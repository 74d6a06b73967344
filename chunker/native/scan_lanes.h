/* The scan over LANES offsets at a time; included by one file per vector unit, which defines
 *
 *     LANES, vec                   bytes in a vector, and a vector of as many (or of half as many 16-bit words)
 *     ADD TIMES XOR AND SPLAT(x)   on 16-bit words
 *     PAIRS(v, w)                  words: even bytes of v times even ones of w (signed) plus the same of the odd ones
 *     NIBBLES(table, v)            table[byte & 15] for every byte of v, and
 *     HIGH(v)                      the high halves of bytes in their low ones
 *     LOAD(p) STORE(p, v) TABLE(p) LANES bytes at p; the 16 bytes at p, repeated
 *     BACK1 .. BACK32 (v, before)  v, its bytes moved n places up, those of the block before moving in
 *     HIT(even, odd, mask, wanted) is any word equal to wanted under mask?
 *     HITS(...)                    the same as a bit for each offset, in order: those of even words at even places
 *     TARGET                       the function attribute that allows the instructions
 *
 * The sums are those of the portable kernel (scan.c), in two rows of words: those that end with an even byte of the block, and
 * those that end with an odd one.  The steps stand last to first, so that each works on what the step below it left in the round
 * before: nobody waits for anybody, and a block comes out DEPTH rounds after it went in.  (Written first to last, the same steps
 * take a third more time.) */

enum { DEPTH = LANES == 64 ? 6 : 5, RING = SL_WINDOW / LANES, EVEN = 0, ODD = 1 };

typedef struct {
    vec even, odd;
} row;

#define SUM(to, x, y, z, factor)                                                                                       \
    do {                                                                                                               \
        to.even = ADD(x.even, TIMES(y, factor));                                                                       \
        to.odd = ADD(x.odd, TIMES(z, factor));                                                                         \
    } while (0)

/* The first cut point among the candidates of a block, whose first lane decides about *base*; or 0. */
TARGET static __attribute__((noinline)) size_t first_cut(const sl_rule *rule, sl_memo *memo, const uint8_t *data, size_t from,
                                                         size_t to, size_t base, uint64_t hits, vec even, vec odd)
{
    uint16_t h[2][LANES / 2];

    STORE(h[0], even);
    STORE(h[1], odd);
    for (; hits != 0; hits &= hits - 1) {
        const unsigned i = (unsigned)__builtin_ctzll(hits);
        const size_t e = base + i;

        if (e >= from && e < to && sl_confirm(rule, memo, data + e - SL_WINDOW, h[i % 2][i / 2]))
            return e;
    }
    return 0;
}

TARGET static size_t scan(const sl_rule *rule, sl_memo *memo, const uint8_t *data, size_t from, size_t to)
{
    const unsigned shift = SL_HASH_BITS - rule->bits;
    const vec mask = SPLAT(0xffffu << shift), wanted = SPLAT(1u << shift), low = TABLE(rule->low), high = TABLE(rule->high);
    const vec pair = SPLAT(SL_POW1 | 1 << 8), pow2 = SPLAT(SL_POW2), pow4 = SPLAT(SL_POW4), pow8 = SPLAT(SL_POW8),
              pow16 = SPLAT(SL_POW16), pow32 = SPLAT(SL_POW32), leaving = SPLAT(0 - SL_POW256), zero = SPLAT(0);
    const row none = {zero, zero};
    const uint8_t *x = data + from - SL_WINDOW;
    const size_t there = to - 1 - (from - SL_WINDOW), full = there / LANES, blocks = (there + LANES - 1) / LANES;
    vec one = zero, one1 = zero;
    row two4 = none, two41 = none, s8 = none, s81 = none, s16 = none, s161 = none, s32 = none, prefix = none;
#if LANES == 64
    const vec pow64 = SPLAT(SL_POW64);
    row s321 = none, s64 = none;
#endif
    row ring[RING];
    size_t t;
    unsigned i;

    for (i = 0; i < RING; i++)
        ring[i] = none;
    for (t = 0; t < blocks + DEPTH; t++) {
        row *const old = &ring[t % RING], h;

#if LANES == 64
        SUM(prefix, s64, prefix.even, prefix.odd, pow64);
#else
        SUM(prefix, s32, prefix.even, prefix.odd, pow32);
#endif
        SUM(h, prefix, old->even, old->odd, leaving);
        *old = prefix;
        /* The first blocks are warm-up: a window ends behind the last byte of the RING-th at the earliest. */
        if (__builtin_expect(HIT(h.even, h.odd, mask, wanted), 0) && t >= DEPTH + RING - 1) {
            const size_t e = first_cut(rule, memo, data, from, to, from - SL_WINDOW + (t - DEPTH) * LANES + 1,
                                       HITS(h.even, h.odd, mask, wanted), h.even, h.odd);

            if (e != 0)
                return e;
        }
#if LANES == 64
        SUM(s64, s32, BACK32(s32.even, s321.even), BACK32(s32.odd, s321.odd), pow32);
        s321 = s32;
#endif
        SUM(s32, s16, BACK16(s16.even, s161.even), BACK16(s16.odd, s161.odd), pow16);
        s161 = s16;
        SUM(s16, s8, BACK8(s8.even, s81.even), BACK8(s8.odd, s81.odd), pow8);
        s81 = s8;
        SUM(s8, two4, BACK4(two4.even, two41.even), BACK4(two4.odd, two41.odd), pow4);
        two41 = two4;
        two4.odd = ADD(PAIRS(one, pair), TIMES(PAIRS(BACK2(one, one1), pair), pow2));
        two4.even = ADD(PAIRS(BACK1(one, one1), pair), TIMES(PAIRS(BACK3(one, one1), pair), pow2));
        one1 = one;
        if (t < blocks) {
            vec v;

            if (t < full) {
                v = LOAD(x + t * LANES);
            } else {
                uint8_t rest[LANES] = {0};

                memcpy(rest, x + t * LANES, there - t * LANES);
                v = LOAD(rest);
            }
            one = XOR(NIBBLES(low, v), NIBBLES(high, HIGH(v)));
        }
    }
    return 0;
}
