/* Sixty-four offsets at a time, for machines with AVX-512. */
#include "scan.h"

#if defined(__GNUC__) && defined(__x86_64__)
#include <immintrin.h>
#include <string.h>

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,bmi2")))
#define LANES 64
typedef __m512i vec;
#define ADD _mm512_add_epi16
#define TIMES _mm512_mullo_epi16
#define XOR _mm512_xor_si512
#define PAIRS _mm512_maddubs_epi16
#define SPLAT(x) _mm512_set1_epi16((short)(x))
#define LOAD(p) _mm512_loadu_si512(p)
#define STORE(p, v) _mm512_storeu_si512(p, v)
#define TABLE(p) _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)(p)))
#define LOW(v) _mm512_and_si512(v, _mm512_set1_epi8(15))
#define NIBBLES(table, v) _mm512_shuffle_epi8(table, LOW(v))
#define HIGH(v) _mm512_srli_epi16(v, 4)
#define BACK(v, before, n) _mm512_alignr_epi8(v, BACK16(v, before), 16 - (n))
#define BACK1(v, before) BACK(v, before, 1)
#define BACK2(v, before) BACK(v, before, 2)
#define BACK3(v, before) BACK(v, before, 3)
#define BACK4(v, before) _mm512_alignr_epi32(v, before, 15)
#define BACK8(v, before) _mm512_alignr_epi64(v, before, 7)
#define BACK16(v, before) _mm512_alignr_epi64(v, before, 6)
#define BACK32(v, before) _mm512_alignr_epi64(v, before, 4)
#define EQUAL(v, mask, wanted) _mm512_cmpeq_epi16_mask(_mm512_and_si512(v, mask), wanted)
#define HIT(even, odd, mask, wanted) ((EQUAL(even, mask, wanted) | EQUAL(odd, mask, wanted)) != 0)
#define HITS(even, odd, mask, wanted)                                                                                  \
    (_pdep_u64(EQUAL(even, mask, wanted), UINT64_C(0x5555555555555555)) |                                              \
     _pdep_u64(EQUAL(odd, mask, wanted), UINT64_C(0xaaaaaaaaaaaaaaaa)))

#include "scan_lanes.h"

static int usable(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("bmi2");
}

const sl_kernel sl_avx512 = {"avx512", scan, usable};
#endif
