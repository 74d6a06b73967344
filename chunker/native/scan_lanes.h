/* The scan over LANES offsets at a time; included by one file per vector unit, which defines
 *
 *     LANES, vec                   bytes in a vector, and a vector of as many (or of half as many 16-bit words)
 *     ADD TIMES XOR SPLAT(x)       on 16-bit words
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
 * those that end with an odd one; sum8 covers 8 bytes, was8 is the same of the block before.  The steps stand last to first, so
 * that each works on what the step below it left in the round before: nobody waits for anybody, and a block comes out DEPTH
 * rounds after it went in.  (Written first to last, the same steps take a third more time.) */

enum { DEPTH = LANES == 64 ? 6 : 5, RING = SL_WINDOW / LANES };

typedef struct {
    vec even, odd;
} row;

/* to = x + factor * (y, z) */
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
    vec sum1 = zero, was1 = zero;
    row sum4 = none, was4 = none, sum8 = none, was8 = none, sum16 = none, was16 = none, sum32 = none, prefix = none;
#if LANES == 64
    const vec pow64 = SPLAT(SL_POW64);
    row was32 = none, sum64 = none;
#endif
    row ring[RING];
    size_t t;
    unsigned i;

    for (i = 0; i < RING; i++)
        ring[i] = none;
    for (t = 0; t < blocks + DEPTH; t++) {
        row *const old = &ring[t % RING], h;

#if LANES == 64
        SUM(prefix, sum64, prefix.even, prefix.odd, pow64);
#else
        SUM(prefix, sum32, prefix.even, prefix.odd, pow32);
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
        SUM(sum64, sum32, BACK32(sum32.even, was32.even), BACK32(sum32.odd, was32.odd), pow32);
        was32 = sum32;
#endif
        SUM(sum32, sum16, BACK16(sum16.even, was16.even), BACK16(sum16.odd, was16.odd), pow16);
        was16 = sum16;
        SUM(sum16, sum8, BACK8(sum8.even, was8.even), BACK8(sum8.odd, was8.odd), pow8);
        was8 = sum8;
        SUM(sum8, sum4, BACK4(sum4.even, was4.even), BACK4(sum4.odd, was4.odd), pow4);
        was4 = sum4;
        sum4.odd = ADD(PAIRS(sum1, pair), TIMES(PAIRS(BACK2(sum1, was1), pair), pow2));
        sum4.even = ADD(PAIRS(BACK1(sum1, was1), pair), TIMES(PAIRS(BACK3(sum1, was1), pair), pow2));
        was1 = sum1;
        if (t < blocks) {
            vec v;

            if (t < full) {
                v = LOAD(x + t * LANES);
            } else {
                uint8_t rest[LANES] = {0};

                memcpy(rest, x + t * LANES, there - t * LANES);
                v = LOAD(rest);
            }
            sum1 = XOR(NIBBLES(low, v), NIBBLES(high, HIGH(v)));
        }
    }
    return 0;
}
