/* What every kernel shares (rule, confirmation, the walk from cut to cut), and the portable kernel. */
#include "scan.h"

#include <string.h>

#if defined(__GNUC__)
#define APART __attribute__((noinline))
#define PREFETCH(p) __builtin_prefetch(p)
#elif defined(_MSC_VER)
#define APART __declspec(noinline)
#define PREFETCH(p) ((void)(p))
#else
#define APART
#define PREFETCH(p) ((void)(p))
#endif

static uint64_t load_u64(const uint8_t *p)
{
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 | (uint64_t)p[4] << 32 |
           (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 | (uint64_t)p[7] << 56;
}

int sl_rule_load(sl_rule *rule, const uint8_t packed[SL_RULE_SIZE])
{
    int i;

    memcpy(rule->sbox, packed, sizeof rule->sbox);
    for (i = 0; i < 16; i++) {
        rule->low[i] = rule->sbox[i];
        rule->high[i] = rule->sbox[16 * i] ^ rule->sbox[0];
    }
    for (i = 0; i < 256; i++)
        if (rule->sbox[i] != (rule->low[i & 15] ^ rule->high[i >> 4]))
            return -1;
    rule->k0 = load_u64(packed + 256);
    rule->k1 = load_u64(packed + 264);
    rule->accept = load_u64(packed + 272);
    rule->min = load_u64(packed + 280);
    rule->max = load_u64(packed + 288);
    rule->bits = packed[296] | (unsigned)packed[297] << 8 | (unsigned)packed[298] << 16 | (unsigned)packed[299] << 24;
    /* 2^30 keeps every length below SIZE_MAX where that is 32 bits. */
    if (rule->min < SL_WINDOW || rule->max <= rule->min || rule->max > (uint64_t)1 << 30)
        return -1;
    return rule->bits >= 1 && rule->bits <= 13 ? 0 : -1;
}

static uint64_t rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

typedef struct {
    uint64_t a, b, c, d;
} sip;

static void sip_round(sip *v)
{
    v->a += v->b;
    v->c += v->d;
    v->b = rotate(v->b, 13) ^ v->a;
    v->d = rotate(v->d, 16) ^ v->c;
    v->a = rotate(v->a, 32);
    v->c += v->b;
    v->a += v->d;
    v->b = rotate(v->b, 17) ^ v->c;
    v->d = rotate(v->d, 21) ^ v->a;
    v->c = rotate(v->c, 32);
}

static void sip_word(sip *v, uint64_t word)
{
    v->d ^= word;
    sip_round(v);
    sip_round(v);
    v->a ^= word;
}

/* SipHash-2-4 of exactly one window. */
static uint64_t sip_window(uint64_t k0, uint64_t k1, const uint8_t *window)
{
    sip v = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d),
             k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    int i;

    for (i = 0; i < SL_WINDOW; i += 8)
        sip_word(&v, load_u64(window + i));
    sip_word(&v, (uint64_t)(SL_WINDOW & 255) << 56);
    v.c ^= 0xff;
    for (i = 0; i < 4; i++)
        sip_round(&v);
    return v.a ^ v.b ^ v.c ^ v.d;
}

int sl_confirm(const sl_rule *rule, sl_memo *memo, const uint8_t *window, unsigned h)
{
    const uint8_t **refused = &memo->refused[h % SL_MEMO];
    int i;

    if (*refused != NULL && memcmp(*refused, window, SL_WINDOW) == 0)
        return 0;
    /* Where one in four or more is one: the next scan may well begin far from here.  Fetch that memory while we hash. */
    if (rule->accept >> 62 != 0)
        for (i = 0; i < 1024; i += 64)
            PREFETCH((const void *)((uintptr_t)window + (uintptr_t)rule->min + (uintptr_t)i));
    if (sip_window(rule->k0, rule->k1, window) <= rule->accept)
        return 1;
    *refused = window;
    return 0;
}

enum { RUN = 4096 };

/* All powers below the window's: what a window of one byte over and over multiplies that byte's value with. */
#define WITH_ITS(pow) (1u + (pow))
#define ALL_POWERS                                                                                                     \
    (WITH_ITS(SL_POW1) * WITH_ITS(SL_POW2) * WITH_ITS(SL_POW4) * WITH_ITS(SL_POW8) * WITH_ITS(SL_POW16) *              \
     WITH_ITS(SL_POW32) * WITH_ITS(SL_POW64) * WITH_ITS(SL_POW128) & 0xffffu)

/* Holes in databases are long: the first offset from *from* on whose window is not one byte over and over, if
 * such windows are no candidates.  Comparing is several times as fast as the fastest kernel. */
static size_t skip_run(const sl_rule *rule, const uint8_t *data, size_t from, size_t to)
{
    const uint8_t *x = data + from - SL_WINDOW;
    const size_t there = to - 1 - (from - SL_WINDOW);
    size_t run = SL_WINDOW;

    if (x[0] != x[SL_WINDOW - 1] || memcmp(x, x + 1, SL_WINDOW - 1) != 0)
        return from;
    if ((rule->sbox[x[0]] * ALL_POWERS & 0xffffu) >> (SL_HASH_BITS - rule->bits) == 1)
        return from;
    /* Its first window is one byte; what equals its neighbour a window back, from there on, is so too. */
    while (run < there) {
        const size_t size = there - run < RUN ? there - run : RUN;

        if (memcmp(x, x + run, size) != 0)
            break;
        run += size;
    }
    return from - SL_WINDOW + run + 1;
}

/* The length of the chunk that begins at *data*, with *left* bytes there; 0 if it is not decided.  What is below *examined* is no cut
 * point; then *examined* is the next offset to examine. */
static size_t one_chunk(const sl_rule *rule, sl_scan scan, sl_memo *memo, const uint8_t *data, size_t left, int final,
                        size_t *examined)
{
    const size_t min = (size_t)rule->min, max = (size_t)rule->max;
    const size_t from = *examined > min ? *examined : min;
    const size_t to = left < max ? left + 1 : max; /* at max the cut is forced: nothing to examine */
    const size_t first = from < to ? skip_run(rule, data, from, to) : to;
    const size_t length = first < to ? scan(rule, memo, data, first, to) : 0;

    if (length != 0)
        return length;
    if (left >= max)
        return max;
    *examined = from < to ? to : from;
    return final ? left : 0;
}

size_t sl_cut(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, int final, size_t *next,
              uint64_t *ends)
{
    sl_memo memo = {{NULL}};
    size_t start = 0, count = 0;

    while (start < size) {
        const size_t length = one_chunk(rule, scan, &memo, data + start, size - start, final, next);

        if (length == 0)
            return count;
        start += length;
        ends[count++] = start;
        *next = 0;
    }
    *next = 0;
    return count;
}

size_t sl_join(const sl_rule *rule, sl_scan scan, const uint8_t *data, size_t size, size_t rest, const uint64_t *guess,
               size_t guesses, int final, uint64_t *ends)
{
    sl_memo memo = {{NULL}};
    size_t start = 0, count = 0, g = 0;

    while (start < size) {
        size_t examined = 0, length;

        while (g < guesses && rest + guess[g] < start)
            g++;
        if (start == rest || (g < guesses && rest + guess[g] == start)) {
            for (g += start != rest; g < guesses; g++)
                ends[count++] = start = rest + (size_t)guess[g];
            if (final && start < size)
                ends[count++] = size;
            return count;
        }
        length = one_chunk(rule, scan, &memo, data + start, size - start, final, &examined);
        if (length == 0)
            return count;
        start += length;
        ends[count++] = start;
    }
    return count;
}

/* The portable kernel.
 *
 * It works on blocks of one window and on 16-bit lanes, in loops that the compilers of today turn into
 * vector code by themselves.  With one(i) = sbox[x[i]] and all sums mod 2^16:
 *
 *     two(i)    = one(i) + 109 one(i-1)              the hash of 2 bytes
 *     four(i)   = two(i) + 109^2 two(i-2)            of 4
 *     eight(i)  = four(i) + 109^4 four(i-4)          of 8
 *     prefix(i) = eight(i) + 109^8 eight(i-8)        of 16,
 *                 + 109^16 prefix(i-16)              and then of all bytes since the scan began
 *     H(i + 1)  = prefix(i) - 109^256 prefix(i-256)
 *
 * so that a block needs only the prefixes of the block before it, and no step waits for its neighbour. */
enum { BACK = 16, SPAN = BACK + SL_WINDOW };

typedef struct {
    /* The first BACK lanes of a row are the last ones of the block before. */
    uint16_t one[SPAN], two[SPAN], four[SPAN], eight[SPAN], prefix[2][SPAN];
} lanes;

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define LANE(value, i) ((uint64_t)(value) << (48 - 16 * (i)))
#else
#define LANE(value, i) ((uint64_t)(value) << (16 * (i)))
#endif

/* Four lanes to a store, and in a function of its own: compilers that see more at once gather these
 * bytes into vectors, one by one, and halve the speed of the whole. */
static APART void look_up(uint16_t *row, const uint8_t *sbox, const uint8_t *x)
{
    int i;

    for (i = 0; i < SL_WINDOW; i += 4) {
        const uint64_t four =
            LANE(sbox[x[i]], 0) | LANE(sbox[x[i + 1]], 1) | LANE(sbox[x[i + 2]], 2) | LANE(sbox[x[i + 3]], 3);
        memcpy(row + BACK + i, &four, sizeof four);
    }
}

static void carry(uint16_t *row, const uint16_t *before)
{
    memcpy(row, before + SL_WINDOW, BACK * sizeof *row);
}

/* Compute the prefixes of the block at *x* into *prefix*; *before* holds those of the block before. */
static void fill_block(lanes *l, const uint8_t *sbox, const uint8_t *x, uint16_t *prefix, const uint16_t *before)
{
    uint16_t *one = l->one, *two = l->two, *four = l->four, *eight = l->eight;
    int i;

    carry(one, one);
    carry(two, two);
    carry(four, four);
    carry(eight, eight);
    carry(prefix, before);
    look_up(one, sbox, x);
    for (i = BACK; i < SPAN; i++)
        two[i] = (uint16_t)(one[i] + (unsigned)SL_POW1 * one[i - 1]);
    for (i = BACK; i < SPAN; i++)
        four[i] = (uint16_t)(two[i] + (unsigned)SL_POW2 * two[i - 2]);
    for (i = BACK; i < SPAN; i++)
        eight[i] = (uint16_t)(four[i] + (unsigned)SL_POW4 * four[i - 4]);
    for (i = BACK; i < SPAN; i++)
        prefix[i] = (uint16_t)(eight[i] + (unsigned)SL_POW8 * eight[i - 8]);
    for (i = BACK; i < SPAN; i++)
        prefix[i] = (uint16_t)(prefix[i] + (unsigned)SL_POW16 * prefix[i - 16]);
}

static uint16_t hash_at(const uint16_t *prefix, const uint16_t *before, int lane)
{
    return (uint16_t)(prefix[lane] - (unsigned)SL_POW256 * before[lane]);
}

static size_t scan_portable(const sl_rule *rule, sl_memo *memo, const uint8_t *data, size_t from, size_t to)
{
    const uint16_t mask = (uint16_t)(0xffffu << (SL_HASH_BITS - rule->bits));
    const uint16_t wanted = (uint16_t)(1u << (SL_HASH_BITS - rule->bits));
    int first = SL_WINDOW - 1; /* the first block is only warm-up, but for its last lane */
    int now = 0;
    uint8_t rest[SL_WINDOW];
    lanes l;
    size_t at; /* where the block begins; its lane i decides offset at + i + 1 */

    memset(&l, 0, sizeof l);
    for (at = from - SL_WINDOW; at + 1 < to; at += SL_WINDOW) {
        uint16_t *prefix = l.prefix[now];
        const uint16_t *before = l.prefix[now ^ 1];
        const size_t there = to - 1 - at;
        const uint8_t *x = data + at;
        uint16_t hit = 0;
        int i;

        if (there < SL_WINDOW) {
            memset(rest, 0, sizeof rest);
            memcpy(rest, x, there);
            x = rest;
        }
        fill_block(&l, rule->sbox, x, prefix, before);
        for (i = BACK; i < SPAN; i++)
            hit |= (uint16_t)((hash_at(prefix, before, i) & mask) == wanted);
        for (i = first; hit && i < SL_WINDOW && (size_t)i < there; i++) {
            const uint16_t h = hash_at(prefix, before, BACK + i);
            const size_t e = at + (size_t)i + 1;

            if ((h & mask) == wanted && sl_confirm(rule, memo, data + e - SL_WINDOW, h))
                return e;
        }
        first = 0;
        now ^= 1;
    }
    return 0;
}

static const sl_kernel portable = {"portable", scan_portable, NULL};

#if defined(__GNUC__) && defined(__x86_64__)
extern const sl_kernel sl_avx2, sl_avx512;
#endif

const sl_kernel *const sl_kernels[] = {
    &portable,
#if defined(__GNUC__) && defined(__x86_64__)
    &sl_avx2, &sl_avx512,
#endif
    NULL};
