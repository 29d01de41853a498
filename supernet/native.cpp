// Passes over matrices of pixels (P rows, C columns side by side, rows `stride` apart), several results a pass.
//
// supernet/native.py says what each computes. Sums over rows are taken in CHUNKS parts whose bounds do not depend on
// the number of threads, so neither do the bits of a result.

#include <algorithm>
#include <cstring>
#include <vector>

namespace {

constexpr long CHUNKS = 64;
constexpr long ROWS = 128;  // of a block that stays in the first caches
#if defined(__AVX512F__)
#define WIDTH 64  // bytes of a register
constexpr int SUMS = 24;  // registers that hold sums
#elif defined(__AVX__)
#define WIDTH 32
constexpr int SUMS = 12;
#else
#define WIDTH 16
constexpr int SUMS = 8;
#endif

template <class T>
struct Wide {
    typedef T type __attribute__((vector_size(WIDTH)));
    typedef T half __attribute__((vector_size(WIDTH / 2)));
};

template <class V, class T>
inline V load(const T *from) {
    V value;
    std::memcpy(&value, from, sizeof(V));
    return value;
}

template <class V, class T>
inline void store(T *to, V value) {
    std::memcpy(to, &value, sizeof(V));
}

// CALL(type of vector, number of them) for columns from `c` on: up to four wide vectors, then half of one, then single
// columns.
#define EACH_COLUMN_GROUP(T, C, CALL)                                             \
    {                                                                             \
        using V = typename Wide<T>::type;                                         \
        constexpr long L = sizeof(V) / sizeof(T);                                 \
        long c = 0;                                                               \
        for (; c + 4 * L <= C; c += 4 * L) CALL(V, 4);                            \
        if (c + 3 * L <= C) { CALL(V, 3); c += 3 * L; }                           \
        else if (c + 2 * L <= C) { CALL(V, 2); c += 2 * L; }                      \
        else if (c + L <= C) { CALL(V, 1); c += L; }                              \
        if (c + L / 2 <= C) { CALL(typename Wide<T>::half, 1); c += L / 2; }      \
        for (; c < C; ++c) CALL(T, 1);                                            \
    }

template <class T>
struct Terms {
    long columns, count;
    const T *const *value;
    const long *stride;
    const T *const *scale;   // by column, or null
    const T *const *matrix;  // (C, C), where there is no scale
    const T *constant;       // by column, or null
    long masked;             // number of terms that the mask covers
    const T *mask;           // or null
    long mask_stride;
};

template <class T, class V, int P, int N>
inline void combine_tile(const Terms<T> &terms, long row, long column, T *out, long out_stride) {
    constexpr long L = sizeof(V) / sizeof(T);
    V sum[P][N];
    for (int p = 0; p < P; ++p)
        for (int n = 0; n < N; ++n) sum[p][n] = terms.constant ? load<V>(terms.constant + column + n * L) : V();
    for (long k = 0; k <= terms.count; ++k) {
        if (k == terms.masked && terms.mask)
            for (int p = 0; p < P; ++p)
                for (int n = 0; n < N; ++n) {
                    V value = load<V>(terms.mask + (row + p) * terms.mask_stride + column + n * L);
                    sum[p][n] = value > 0 ? sum[p][n] : V();
                }
        if (k == terms.count) break;
        const T *value = terms.value[k] + row * terms.stride[k];
        const long stride = terms.stride[k];
        if (const T *matrix = terms.matrix[k]) {
            for (long i = 0; i < terms.columns; ++i, matrix += terms.columns)
                for (int n = 0; n < N; ++n) {
                    V weight = load<V>(matrix + column + n * L);
                    for (int p = 0; p < P; ++p) sum[p][n] += weight * value[p * stride + i];
                }
        } else {
            for (int n = 0; n < N; ++n) {
                V scale = load<V>(terms.scale[k] + column + n * L);
                for (int p = 0; p < P; ++p) sum[p][n] += scale * load<V>(value + p * stride + column + n * L);
            }
        }
    }
    for (int p = 0; p < P; ++p)
        for (int n = 0; n < N; ++n) store(out + (row + p) * out_stride + column + n * L, sum[p][n]);
}

template <class T, class V, int N>
void combine_rows(const Terms<T> &terms, long first, long last, long column, T *out, long out_stride) {
    constexpr int P = std::max(1, std::min(16, SUMS / N));
    long row = first;
    for (; row + P <= last; row += P) combine_tile<T, V, P, N>(terms, row, column, out, out_stride);
    for (; row < last; ++row) combine_tile<T, V, 1, N>(terms, row, column, out, out_stride);
}

template <class T>
void combine(long pixels, const Terms<T> &terms, T *out, long out_stride, int threads) {
    const long blocks = (pixels + ROWS - 1) / ROWS;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long block = 0; block < blocks; ++block) {
        const long first = block * ROWS, last = std::min(pixels, first + ROWS);
#define CALL(V, N) combine_rows<T, V, N>(terms, first, last, c, out, out_stride)
        EACH_COLUMN_GROUP(T, terms.columns, CALL)
#undef CALL
    }
}

inline long bound(long pixels, long chunk) { return pixels * chunk / CHUNKS; }

// Sums of the chunks' parts, in double precision.
template <class T>
void gather(const std::vector<T> &parts, long size, T *out, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads) if (size > 512)
    for (long i = 0; i < size; ++i) {
        double sum = 0;
        for (long chunk = 0; chunk < CHUNKS; ++chunk) sum += parts[chunk * size + i];
        out[i] = T(sum);
    }
}

template <class T, class V, int N>
inline void add_products(long rows, const T *left, long left_stride, const T *right, long right_stride, T *sums) {
    constexpr long L = sizeof(V) / sizeof(T);
    constexpr int R = std::max(1, std::min(4, SUMS / N));  // rows at a time
    V sum[R][N] = {};
    long p = 0;
    for (; p + R <= rows; p += R)
        for (int r = 0; r < R; ++r)
            for (int n = 0; n < N; ++n) {
                V value = load<V>(left + (p + r) * left_stride + n * L);
                if (right) value *= load<V>(right + (p + r) * right_stride + n * L);
                sum[r][n] += value;
            }
    for (; p < rows; ++p)
        for (int n = 0; n < N; ++n) {
            V value = load<V>(left + p * left_stride + n * L);
            if (right) value *= load<V>(right + p * right_stride + n * L);
            sum[0][n] += value;
        }
    for (int n = 0; n < N; ++n) {
        V total = load<V>(sums + n * L);
        for (int r = 0; r < R; ++r) total += sum[r][n];
        store(sums + n * L, total);
    }
}

template <class T>
void products(long pixels, long columns, const T *left, long left_stride, long count, const T *const *right,
              const long *stride, T *out, int threads) {
    const long size = (1 + count) * columns;
    std::vector<T> parts(CHUNKS * size);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long chunk = 0; chunk < CHUNKS; ++chunk) {
        const long end = bound(pixels, chunk + 1);
        for (long first = bound(pixels, chunk); first < end; first += ROWS) {
            const long rows = std::min(ROWS, end - first);
            for (long k = 0; k <= count; ++k) {
                T *sums = parts.data() + chunk * size + k * columns;
                const T *other = k ? right[k - 1] + first * stride[k - 1] : nullptr;
                const long other_stride = k ? stride[k - 1] : 0;
#define CALL(V, N) add_products<T, V, N>(rows, left + first * left_stride + c, left_stride, other ? other + c : other, \
                                         other_stride, sums + c)
                EACH_COLUMN_GROUP(T, columns, CALL)
#undef CALL
            }
        }
    }
    gather(parts, size, out, threads);
}

template <class T>
struct Pair {
    long columns;
    const T *left;
    long left_stride;
    const T *right;
    long right_stride;
    const T *shift;  // taken from both, by column, or null
};

template <class T, class V, int I, int N>
inline void gram_tile(const Pair<T> &pair, long first, long last, long i, long column, T *sums) {
    constexpr long L = sizeof(V) / sizeof(T);
    V sum[I][N] = {}, shift[N] = {};
    T left_shift[I] = {};
    if (pair.shift) {
        for (int n = 0; n < N; ++n) shift[n] = load<V>(pair.shift + column + n * L);
        for (int r = 0; r < I; ++r) left_shift[r] = pair.shift[i + r];
    }
    for (long p = first; p < last; ++p) {
        const T *left = pair.left + p * pair.left_stride + i;
        const T *right = pair.right + p * pair.right_stride + column;
        for (int n = 0; n < N; ++n) {
            V value = load<V>(right + n * L) - shift[n];
            for (int r = 0; r < I; ++r) sum[r][n] += value * (left[r] - left_shift[r]);
        }
    }
    for (int r = 0; r < I; ++r)
        for (int n = 0; n < N; ++n) {
            T *place = sums + (i + r) * pair.columns + column + n * L;
            store(place, load<V>(place) + sum[r][n]);
        }
}

template <class T, class V, int N>
void gram_rows(const Pair<T> &pair, long first, long last, long column, T *sums) {
    constexpr int I = std::max(1, std::min(16, SUMS) / (N == 3 ? 4 : N));
    long i = 0;
    for (; i + I <= pair.columns; i += I) gram_tile<T, V, I, N>(pair, first, last, i, column, sums);
    for (; i < pair.columns; ++i) gram_tile<T, V, 1, N>(pair, first, last, i, column, sums);
}

template <class T>
void gram(long pixels, const Pair<T> &pair, T *out, int threads) {
    const long size = pair.columns * pair.columns;
    std::vector<T> parts(CHUNKS * size);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (long chunk = 0; chunk < CHUNKS; ++chunk) {
        const long end = bound(pixels, chunk + 1);
        for (long first = bound(pixels, chunk); first < end; first += ROWS) {
            const long last = std::min(end, first + ROWS);
            T *sums = parts.data() + chunk * size;
#define CALL(V, N) gram_rows<T, V, N>(pair, first, last, c, sums)
            EACH_COLUMN_GROUP(T, pair.columns, CALL)
#undef CALL
        }
    }
    gather(parts, size, out, threads);
}

// Mean and sum of squared deviations of a block's rows, in two passes.
template <class T, class V>
inline void deviations(long rows, const T *x, long stride, T *mean, T *squares) {
    V sum = V(), rest = V(), total = V();
    for (long p = 0; p < rows; ++p) sum += load<V>(x + p * stride);
    const V middle = sum / T(rows);
    for (long p = 0; p < rows; ++p) {
        V deviation = load<V>(x + p * stride) - middle;
        rest += deviation;
        total += deviation * deviation;
    }
    store(mean, middle + rest / T(rows));
    store(squares, total - rest * rest / T(rows));
}

// Joins two sets' counts, means and squares (Chan, Golub and LeVeque 1983, equation 2.1).
inline void join(double count, double mean, double squares, double &all, double &middle, double &total) {
    const double both = all + count, gap = mean - middle;
    middle += gap * count / both;
    total += squares + gap * gap * all * count / both;
}

template <class T>
void moments(long pixels, long columns, const T *x, long stride, T *mean, T *var, int threads) {
    std::vector<double> parts(CHUNKS * 2 * columns);
#pragma omp parallel num_threads(threads)
    {
        std::vector<T> block(2 * columns);
#pragma omp for schedule(static)
        for (long chunk = 0; chunk < CHUNKS; ++chunk) {
            double *means = parts.data() + chunk * 2 * columns, *squares = means + columns;
            const long start = bound(pixels, chunk), end = bound(pixels, chunk + 1);
            for (long first = start; first < end; first += ROWS) {
                const long rows = std::min(ROWS, end - first);
                using V = typename Wide<T>::type;
                constexpr long L = sizeof(V) / sizeof(T);
                const T *from = x + first * stride;
                long c = 0;
                for (; c + L <= columns; c += L)
                    deviations<T, V>(rows, from + c, stride, block.data() + c, block.data() + columns + c);
                if (c + L / 2 <= columns) {
                    deviations<T, typename Wide<T>::half>(rows, from + c, stride, block.data() + c,
                                                          block.data() + columns + c);
                    c += L / 2;
                }
                for (; c < columns; ++c)
                    deviations<T, T>(rows, from + c, stride, block.data() + c, block.data() + columns + c);
                for (c = 0; c < columns; ++c) {
                    double all = double(first - start);
                    join(double(rows), block[c], block[columns + c], all, means[c], squares[c]);
                }
            }
        }
    }
    for (long c = 0; c < columns; ++c) {
        double all = 0, middle = 0, total = 0;
        for (long chunk = 0; chunk < CHUNKS; ++chunk)
            if (const long count = bound(pixels, chunk + 1) - bound(pixels, chunk)) {
                const double *means = parts.data() + chunk * 2 * columns;
                join(double(count), means[c], means[columns + c], all, middle, total);
                all += double(count);
            }
        mean[c] = T(middle);
        var[c] = T(total / double(pixels));
    }
}

// 3 / (pixels inside the image) along one axis.
template <class T>
inline T widening(long place, long size) {
    return T(3) / T(3 - (place == 0) - (place == size - 1));
}

template <class T>
void pool(long images, long height, long width, long columns, const T *x, T *out, bool transposed, int threads) {
    const long line = width * columns;
#pragma omp parallel num_threads(threads)
    {
        std::vector<T> sums(line);
#pragma omp for schedule(static)
        for (long row = 0; row < images * height; ++row) {
            const long h = row % height;
            const T *middle = x + row * line;
            const T own = transposed ? widening<T>(h, height) : T(1);
            const T above = h == 0 ? T(0) : transposed ? widening<T>(h - 1, height) : T(1);
            const T below = h == height - 1 ? T(0) : transposed ? widening<T>(h + 1, height) : T(1);
            const T *up = h == 0 ? middle : middle - line, *down = h == height - 1 ? middle : middle + line;
            for (long i = 0; i < line; ++i) sums[i] = own * middle[i] + above * up[i] + below * down[i];
            if (transposed)
                for (long w = 0; w < width; ++w)
                    for (long c = 0; c < columns; ++c) sums[w * columns + c] *= widening<T>(w, width);
            T *to = out + row * line;
            for (long w = 0; w < width; ++w) {
                const T factor = transposed ? T(1) : widening<T>(w, width) * widening<T>(h, height);
                const T left = w == 0 ? T(0) : factor, right = w == width - 1 ? T(0) : factor;
                const T *here = sums.data() + w * columns;
                const T *before = w == 0 ? here : here - columns, *after = w == width - 1 ? here : here + columns;
                for (long c = 0; c < columns; ++c)
                    to[w * columns + c] = factor * here[c] + left * before[c] + right * after[c];
            }
        }
    }
}

}  // namespace

#define EXPORT(T, NAME)                                                                                             \
    extern "C" void combine_##NAME(long pixels, long columns, long count, const T *const *value, const long *stride, \
                                   const T *const *scale, const T *const *matrix, const T *constant, long masked,   \
                                   const T *mask, long mask_stride, T *out, long out_stride, int threads) {         \
        combine<T>(pixels, {columns, count, value, stride, scale, matrix, constant, masked, mask, mask_stride},     \
                   out, out_stride, threads);                                                                       \
    }                                                                                                               \
    extern "C" void products_##NAME(long pixels, long columns, const T *left, long left_stride, long count,         \
                                    const T *const *right, const long *stride, T *out, int threads) {               \
        products<T>(pixels, columns, left, left_stride, count, right, stride, out, threads);                        \
    }                                                                                                               \
    extern "C" void gram_##NAME(long pixels, long columns, const T *left, long left_stride, const T *right,         \
                                long right_stride, const T *shift, T *out, int threads) {                           \
        gram<T>(pixels, {columns, left, left_stride, right, right_stride, shift}, out, threads);                    \
    }                                                                                                               \
    extern "C" void moments_##NAME(long pixels, long columns, const T *x, long stride, T *mean, T *var,             \
                                   int threads) {                                                                   \
        moments<T>(pixels, columns, x, stride, mean, var, threads);                                                 \
    }                                                                                                               \
    extern "C" void pool_##NAME(long images, long height, long width, long columns, const T *x, T *out,             \
                                int transposed, int threads) {                                                      \
        pool<T>(images, height, width, columns, x, out, transposed != 0, threads);                                  \
    }

EXPORT(float, float)
EXPORT(double, double)
