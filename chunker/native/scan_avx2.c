/* Thirty-two offsets at a time, for machines with AVX2. */
#include "scan.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx2")))
#define LANES 32
typedef __m256i vec;
#define ADD _mm256_add_epi16
#define TIMES _mm256_mullo_epi16
#define XOR _mm256_xor_si256
#define PAIRS _mm256_maddubs_epi16
#define SPLAT(x) _mm256_set1_epi16((short)(x))
#define LOAD(p) _mm256_loadu_si256((const __m256i *)(p))
#define STORE(p, v) _mm256_storeu_si256((__m256i *)(p), v)
#define TABLE(p) _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)(p)))
#define LOW(v) _mm256_and_si256(v, _mm256_set1_epi8(15))
#define NIBBLES(table, v) _mm256_shuffle_epi8(table, LOW(v))
#define HIGH(v) _mm256_srli_epi16(v, 4)
#define BACK16(v, before) _mm256_permute2x128_si256(before, v, 0x21)
#define BACK(v, before, n) _mm256_alignr_epi8(v, BACK16(v, before), 16 - (n))
#define BACK1(v, before) BACK(v, before, 1)
#define BACK2(v, before) BACK(v, before, 2)
#define BACK3(v, before) BACK(v, before, 3)
#define BACK4(v, before) BACK(v, before, 4)
#define BACK8(v, before) BACK(v, before, 8)
#define EQUAL(v, mask, wanted) _mm256_cmpeq_epi16(_mm256_and_si256(v, mask), wanted)
#define HIT hit
#define HITS hits_of

TARGET static inline __attribute__((always_inline)) int hit(vec even, vec odd, vec mask, vec wanted)
{
    const vec any = _mm256_or_si256(EQUAL(even, mask, wanted), EQUAL(odd, mask, wanted));

    return !_mm256_testz_si256(any, any);
}

TARGET static inline __attribute__((always_inline)) uint64_t hits_of(vec even, vec odd, vec mask, vec wanted)
{
    return (uint32_t)_mm256_movemask_epi8(
        _mm256_blendv_epi8(EQUAL(even, mask, wanted), EQUAL(odd, mask, wanted), SPLAT(0xff00)));
}

#include "scan_lanes.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx2");
}

const sl_kernel sl_avx2 = {"avx2", scan, usable};
#endif
