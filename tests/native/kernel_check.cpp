// Checks the kernels without Python: every SIMD level of this machine against the scalar functions
// on awkward sizes, the walk over JSON, and the pool of threads. Built with
// -DFASTROUTE_KERNEL_CHECK=ON; exits with 1 if anything differs. It is small enough to run under an
// emulator or a thread sanitizer.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "kernels/bradley_terry.hpp"
#include "kernels/far_field.hpp"
#include "kernels/json_members.hpp"
#include "kernels/matrix_factorization.hpp"
#include "kernels/nearest_rows.hpp"
#include "kernels/parallel.hpp"
#include "kernels/rating_tiers.hpp"
#include "kernels/similarity_weighting.hpp"
#include "kernels/success_estimate.hpp"
#include "kernels/token_bag.hpp"
#include "simd/level.hpp"
#include "text_check.hpp"

namespace {

using fastroute::simd::Functions;

constexpr std::size_t kSizes[] = {0,  1,  2,  3,  4,  5,   7,   8,   9,   15,  16,  17,  31,  32,
                                  33, 63, 64, 65, 97, 127, 128, 129, 255, 256, 257, 384, 1536};

int passed = 0;
int failed = 0;

void check(bool good, const std::string& what) {
    ++(good ? passed : failed);
    if (!good) std::printf("FAILED: %s\n", what.c_str());
}

std::mt19937 generator(20240611);

std::vector<float> normal_floats(std::size_t count) {
    std::normal_distribution<float> normal;
    std::vector<float> made(count);
    for (float& value : made) value = normal(generator);
    return made;
}

Functions functions_of(std::string_view level) {
    fastroute::simd::use_level(level);
    return fastroute::simd::functions();
}

void check_dot_rows(const Functions& scalar, const Functions& simd, const std::string& level) {
    for (const std::size_t dimensions : kSizes) {
        for (const std::size_t rows :
             {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{4},
              std::size_t{5}, std::size_t{9}}) {
            const std::size_t stride = dimensions + 3;  // rows may lie apart
            // A float's width before the start: nothing may need more alignment than that.
            const std::vector<float> buffer = normal_floats(rows * stride + 1);
            const std::vector<float> query = normal_floats(dimensions + 1);
            const float* first = buffer.data() + 1;
            std::vector<float> wanted(rows), got(rows), alone(rows);
            scalar.dot_rows(first, rows, stride, query.data() + 1, dimensions, wanted.data());
            simd.dot_rows(first, rows, stride, query.data() + 1, dimensions, got.data());
            bool close = true;
            for (std::size_t r = 0; r < rows; ++r) {
                double magnitude = 0.0;
                for (std::size_t j = 0; j < dimensions; ++j) {
                    magnitude += std::abs(static_cast<double>(first[r * stride + j]) *
                                          static_cast<double>(query[j + 1]));
                }
                // At least 16 partial sums, each addition rounded by half a unit of float32.
                const double bound =
                    std::ldexp(static_cast<double>(dimensions) / 16.0 + 24.0, -24) * magnitude;
                close = close && std::abs(static_cast<double>(got[r]) -
                                          static_cast<double>(wanted[r])) <= bound;
                simd.dot_rows(first + r * stride, 1, stride, query.data() + 1, dimensions,
                              &alone[r]);
            }
            const std::string size = std::to_string(rows) + " x " + std::to_string(dimensions);
            check(close, level + " dot_rows " + size);
            check(alone == got, level + " dot_rows alone and together " + size);
        }
    }
}

// Rows of halves and of bytes: each level against the scalar one, and alone as together.
void check_narrow_rows(const Functions& scalar, const Functions& simd, const std::string& level) {
    std::uniform_int_distribution<int> bytes(-128, 127);
    std::uniform_int_distribution<int> halves(0, 0x7bff);  // every finite one that isn't negative
    for (const std::size_t dimensions : kSizes) {
        constexpr std::size_t kRows = 9;
        const std::size_t stride = dimensions + 3;
        std::vector<std::uint16_t> half(kRows * stride + 1);
        std::vector<std::int8_t> byte(kRows * stride + 1);
        for (std::uint16_t& value : half) {
            const int sign = bytes(generator) < 0 ? 0x8000 : 0;
            value = static_cast<std::uint16_t>(halves(generator) | sign);
        }
        for (std::int8_t& value : byte) value = static_cast<std::int8_t>(bytes(generator));
        const std::vector<float> query = normal_floats(dimensions + 1);
        const auto compare = [&](const auto& function, const auto& rows, const char* what) {
            std::vector<float> wanted(kRows), got(kRows), alone(kRows);
            (scalar.*function)(rows.data() + 1, kRows, stride, query.data() + 1, dimensions,
                               wanted.data());
            (simd.*function)(rows.data() + 1, kRows, stride, query.data() + 1, dimensions,
                             got.data());
            // The largest element times the sum of the query's magnitudes bounds every sum.
            double sum = 0.0;
            for (std::size_t j = 0; j < dimensions; ++j) sum += std::abs(query[j + 1]);
            const double largest = sizeof(rows[0]) == 1 ? 128.0 : 65504.0;
            const double bound =
                std::ldexp(static_cast<double>(dimensions) / 16.0 + 24.0, -24) * largest * sum;
            bool close = true;
            for (std::size_t r = 0; r < kRows; ++r) {
                close = close && std::abs(static_cast<double>(got[r]) -
                                          static_cast<double>(wanted[r])) <= bound;
                (simd.*function)(rows.data() + 1 + r * stride, 1, stride, query.data() + 1,
                                 dimensions, &alone[r]);
            }
            const std::string size = std::to_string(dimensions);
            check(close, level + " " + what + " " + size);
            check(alone == got, level + " " + what + " alone and together " + size);
        };
        compare(&Functions::dot_rows_half, half, "dot_rows_half");
        compare(&Functions::dot_rows_int8, byte, "dot_rows_int8");
    }
}

// A whole number from -2048 to 2048 as the bits of a half-precision float.
std::uint16_t half_bits(int value) {
    if (value == 0) return 0;
    const unsigned sign = value < 0 ? 0x8000U : 0U;
    unsigned fraction = static_cast<unsigned>(std::abs(value));
    unsigned exponent = 25;
    while (fraction < 1024) {
        fraction <<= 1;
        --exponent;
    }
    return static_cast<std::uint16_t>(sign | (exponent << 10) | (fraction & 1023U));
}

void check_add_scaled_rows(const Functions& scalar, const Functions& simd,
                           const std::string& level) {
    constexpr std::size_t kVocabulary = 19;
    std::uniform_int_distribution<int> bytes(-128, 127);
    std::uniform_int_distribution<std::int32_t> tokens(0, kVocabulary - 1);
    for (const std::size_t dimensions : kSizes) {
        for (const std::size_t count :
             {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{33}}) {
            std::vector<std::int8_t> table(kVocabulary * dimensions);
            for (std::int8_t& value : table) value = static_cast<std::int8_t>(bytes(generator));
            const std::vector<float> scales = normal_floats(kVocabulary);
            std::vector<std::int32_t> ids(count);
            for (std::int32_t& id : ids) id = tokens(generator);
            // Guards on both sides show a write out of bounds.
            std::vector<float> wanted(dimensions + 2, 0.5F), got(dimensions + 2, 0.5F);
            scalar.add_scaled_rows(table.data(), scales.data(), dimensions, ids.data(), count,
                                   wanted.data() + 1);
            simd.add_scaled_rows(table.data(), scales.data(), dimensions, ids.data(), count,
                                 got.data() + 1);
            bool close = got.front() == 0.5F && got.back() == 0.5F;
            for (std::size_t j = 0; j < dimensions; ++j) {
                double magnitude = 0.5;
                for (const std::int32_t id : ids) {
                    const auto row = static_cast<std::size_t>(id);
                    magnitude += std::abs(static_cast<double>(scales[row]) *
                                          static_cast<double>(table[row * dimensions + j]));
                }
                const double bound =
                    std::ldexp(2.0 * static_cast<double>(count) + 2.0, -24) * magnitude;
                close = close && std::abs(static_cast<double>(got[j + 1]) -
                                          static_cast<double>(wanted[j + 1])) <= bound;
            }
            check(close, level + " add_scaled_rows " + std::to_string(count) + " x " +
                             std::to_string(dimensions));
            // Both hold every byte exactly, and so the sums are the same.
            std::vector<float> floats(table.begin(), table.end());
            std::vector<std::uint16_t> halves(table.size());
            for (std::size_t i = 0; i < table.size(); ++i) halves[i] = half_bits(table[i]);
            std::vector<float> of_floats(dimensions + 2, 0.5F), of_halves(dimensions + 2, 0.5F);
            simd.add_scaled_rows_float(floats.data(), scales.data(), dimensions, ids.data(), count,
                                       of_floats.data() + 1);
            simd.add_scaled_rows_half(halves.data(), scales.data(), dimensions, ids.data(), count,
                                      of_halves.data() + 1);
            check(of_floats == got && of_halves == got,
                  level + " add_scaled_rows of floats and halves " + std::to_string(dimensions));
        }
    }
}

void check_exp2_scaled(const Functions& scalar, const Functions& simd, const std::string& level) {
    const auto agree = [&](const std::vector<float>& x, double scale, const std::string& what) {
        std::vector<double> wanted(x.size() + 1, -1.0), got(x.size() + 1, -1.0);
        scalar.exp2_scaled(x.data(), x.size(), scale, wanted.data());
        simd.exp2_scaled(x.data(), x.size(), scale, got.data());
        bool close = got.back() == -1.0;
        for (std::size_t i = 0; i < x.size(); ++i) {
            close = close && std::abs(got[i] - wanted[i]) <=
                                 2.0 * std::numeric_limits<double>::epsilon() * wanted[i];
        }
        check(close, level + " exp2_scaled " + what);
    };
    for (const std::size_t count : kSizes) {
        agree(normal_floats(count), 3.321928094887362, std::to_string(count));
    }
    std::vector<float> range;
    for (float x = -1100.0F; x <= 1100.0F; x += 0.37F) range.push_back(x);
    agree(range, 1.0, "over the whole range");
    agree({-3e38F, -1022.0F, -0.0F, 0.0F, 1023.0F, 3e38F}, 1.0, "at the ends");
}

// What is built on the functions, at the level in use: each answer known by other means.
void check_kernels(const std::string& level) {
    const std::size_t n = 5000, d = 33, tiers = 4;
    std::vector<float> rows = normal_floats(n * d);
    std::vector<std::uint16_t> cells(n);
    for (std::size_t i = 0; i < n; ++i) {
        float square = 0.0F;
        for (std::size_t j = 0; j < d; ++j) square += rows[i * d + j] * rows[i * d + j];
        for (std::size_t j = 0; j < d; ++j) rows[i * d + j] /= std::sqrt(square);
        cells[i] = static_cast<std::uint16_t>(generator() % fastroute::cell_count(tiers));
    }
    const std::vector<float> query = normal_floats(d);
    for (const bool strict : {false, true}) {
        const fastroute::StoredRows stored{rows.data(), nullptr, nullptr, nullptr, n, d};
        const fastroute::TieredBattles battles{stored, cells.data(), tiers, strict};
        std::vector<std::vector<double>> ratings;
        for (const std::size_t threads : {std::size_t{1}, std::size_t{2}, std::size_t{3}}) {
            fastroute::SimilarityWorkspace workspace;
            std::vector<double> found(tiers, 0.0);
            const auto status =
                fastroute::rate_tiers(battles, query.data(), threads, workspace, found.data());
            check(status == fastroute::RatingStatus::converged, level + " rate_tiers converges");
            ratings.push_back(found);
        }
        check(ratings[0] == ratings[1] && ratings[0] == ratings[2],
              level + " rate_tiers for any number of threads");
    }

    const fastroute::StoredRows stored{rows.data(), nullptr, nullptr, nullptr, n, d};
    const fastroute::TieredBattles battles{stored, cells.data(), tiers, false};
    const std::size_t width = fastroute::moment_count(3) * fastroute::cell_count(tiers);
    std::vector<double> alone(width, 0.0), shared(width, 0.0);
    const fastroute::MatrixView axes{rows.data(), 3, d, d};
    fastroute::accumulate_moments(battles, axes, 1, alone.data());
    fastroute::accumulate_moments(battles, axes, 3, shared.data());
    check(alone == shared, level + " accumulate_moments for any number of threads");

    std::vector<double> one(n), two(n);
    const fastroute::MatrixView prompts{rows.data(), n, d, d};
    fastroute::pair_win_rates(query.data(), prompts, 1, one.data());
    fastroute::pair_win_rates(query.data(), prompts, 2, two.data());
    check(one == two, level + " pair_win_rates for any number of threads");

    const double wins[] = {0.0, 3.0, 1.0, 0.0};
    const fastroute::WinTable table{2, wins, nullptr, nullptr};
    fastroute::NewtonWorkspace newton;
    double odds[2] = {0.0, 0.0};
    check(fastroute::fit_bradley_terry(table, newton, odds).converged &&
              std::abs(odds[0] - odds[1] - std::log(3.0)) < 1e-12,
          level + " two players have the logarithm of their odds");

    const double sorted[] = {-1e200, 0.0, 1.0, 1e200};
    std::int32_t cut[4];
    fastroute::cut_rating_tiers(sorted, 4, 3, cut);
    check(cut[0] == 0 && cut[3] == 2 && std::is_sorted(cut, cut + 4), level + " tiers in order");
}

// A copy of exactly the text's size on the heap, so that a sanitizer sees a read past its end.
fastroute::JsonFault json_fault(const std::string& text, std::vector<fastroute::JsonMember>& found,
                                bool array = false) {
    const std::vector<char> copy(text.begin(), text.end());
    const fastroute::JsonFinding finding =
        fastroute::find_json_members(copy.data(), copy.size(), array, found);
    check(finding.at <= text.size(), "a fault lies inside the text " + text);
    return finding.fault;
}

// The walk over a request's members: known spans, and every valid text cut at and changed in every
// byte.
void check_json_members() {
    using fastroute::JsonFault;
    std::vector<fastroute::JsonMember> found;
    const std::string words =
        "\"0123456789abcdef\\\"\\\\\\/\\b\\f\\n\\r\\t\\u00e9\\uD800 "
        "\xC3\xA9\xE0\xA0\x80\xED\x9F\xBF\xEF\xBF\xBF\xF0\x90\x80\x80\xF4"
        "\x8F\xBF\xBF\"";
    const std::string all =
        " \t\r\n{\"model\" : \"m\" , \"mod\\u0065l\":[1,-0.5e+7,{\"a\":[[],{},\"x\"]},null] , "
        "\"\":true,\"f\":false,\"n\":[NaN,Infinity,-Infinity,0,-0,10E-2],\"s\":" +
        words + "} \n";
    const std::string objects[] = {
        "{}", "{ }", "{\"a\":1}", "{\"a\":\"b\"}", "{\"a\":[]}", "{\"a\":null,\"a\":null}", all,
    };
    for (const std::string& text : objects) {
        check(json_fault(text, found) == JsonFault::none, "JSON: " + text);
        for (const fastroute::JsonMember& m : found) {
            check(m.key_begin < m.key_end && m.key_end < m.value_begin &&
                      m.value_begin < m.value_end && m.value_end < text.size() &&
                      text[m.key_begin] == '"' && text[m.key_end - 1] == '"',
                  "spans in order in " + text);
        }
        // An object is whole at its last brace only; what follows in these texts is white space.
        const std::size_t last = text.rfind('}');
        for (std::size_t size = 0; size < text.size(); ++size) {
            const bool whole = json_fault(text.substr(0, size), found) == JsonFault::none;
            check(whole == (size > last), "JSON cut at " + std::to_string(size) + ": " + text);
        }
        // Whatever is wrong with it, nothing outside is read; a NUL is never right.
        for (std::size_t i = 0; i < text.size(); ++i) {
            for (const char byte : {'\0', '"', '\\', '{', '}', '[', ']', ',', ':', '\x7F', '\x80',
                                    '\xC2', '\xE0', '\xED', '\xF0', '\xF4', '\xFF'}) {
                std::string changed = text;
                changed[i] = byte;
                const JsonFault fault = json_fault(changed, found);
                check(byte != '\0' || fault != JsonFault::none, "a NUL in " + text);
            }
        }
    }
    json_fault(all, found);
    check(found.size() == 6 && all.substr(found[0].value_begin, 3) == "\"m\"" &&
              all.substr(found[5].value_begin, found[5].value_end - found[5].value_begin) == words,
          "the members of an object");
    const std::string array = "[1, \"two\",{\"three\":3}]";
    check(json_fault(array, found, true) == JsonFault::none && found.size() == 3 &&
              found[1].key_begin == found[1].key_end &&
              array.substr(found[1].value_begin, 5) == "\"two\"",
          "the elements of an array");
    for (std::size_t size = 0; size < array.size(); ++size) {
        check(json_fault(array.substr(0, size), found, true) != JsonFault::none,
              "an array cut at " + std::to_string(size));
    }
    // A string's end, escape, control character and broken character at each place of a word of
    // eight, which is what is skipped at a time.
    for (std::size_t length = 0; length < 40; ++length) {
        const std::string plain(length, 'x');
        for (const auto& [inside, wanted] : {
                 std::pair{"", JsonFault::none},
                 std::pair{"\\n", JsonFault::none},
                 std::pair{"\xC3\xA9", JsonFault::none},
                 std::pair{"\x7F", JsonFault::none},
                 std::pair{"\x1F", JsonFault::control_character},
                 std::pair{"\\x", JsonFault::bad_escape},
                 std::pair{"\\u12g4", JsonFault::bad_escape},
                 std::pair{"\xC0\x80", JsonFault::not_utf8},
                 std::pair{"\xED\xA0\x80", JsonFault::not_utf8},
                 std::pair{"\xF4\x90\x80\x80", JsonFault::not_utf8},
                 std::pair{"\xE2\x82", JsonFault::not_utf8},
             }) {
            const std::string text = "{\"k\":\"" + plain + inside + "xy\"}";
            check(json_fault(text, found) == wanted, "a string of JSON: " + text);
        }
    }
    const auto nested = [](std::size_t depth) {
        return "{\"a\":" + std::string(depth, '[') + std::string(depth, ']') + "}";
    };
    check(json_fault(nested(fastroute::kMostJsonDepth), found) == JsonFault::none,
          "as deep as may be");
    check(json_fault(nested(fastroute::kMostJsonDepth + 1), found) == JsonFault::too_deep,
          "deeper than may be");
    const auto wide = [](std::size_t count) {
        std::string text = "[1";
        for (std::size_t i = 1; i < count; ++i) text += ",1";
        return text + "]";
    };
    check(json_fault(wide(fastroute::kMostJsonMembers), found, true) == JsonFault::none &&
              found.size() == fastroute::kMostJsonMembers,
          "as many elements as may be");
    check(json_fault(wide(fastroute::kMostJsonMembers + 1), found, true) == JsonFault::too_many,
          "more elements than may be");
    check(json_fault("{\"a\":" + wide(fastroute::kMostJsonMembers + 1) + "}", found) ==
              JsonFault::none,
          "as many as there are further in");
    check(json_fault("{\"a\":" + std::string(100000, '['), found) == JsonFault::too_deep,
          "much deeper, and cut");
}

// P(success) of 9 models with clusters and neighbours, one prompt and many, and the nearest rows.
void check_many_models(const std::string& level) {
    constexpr std::size_t kModels = 9, kPrompts = 40, kClusters = 6, kQueries = 70, kNear = 5;
    for (const std::size_t d : {std::size_t{1}, std::size_t{17}, std::size_t{73}}) {
        const auto view = [d](const std::vector<float>& values) {
            return fastroute::MatrixView{values.data(), values.size() / d, d, d};
        };
        const std::vector<float> stacked = normal_floats((kModels + 4) * d);
        const std::vector<float> centre(d, 0.0F), clusters = normal_floats(kClusters * d);
        const std::vector<float> of_clusters = normal_floats(kClusters * (kModels + 1));
        const std::vector<float> rows = normal_floats(kPrompts * d),
                                 X = normal_floats(kQueries * d);
        const std::vector<float> shared = normal_floats(kPrompts);
        std::vector<float> own = normal_floats(kPrompts * kModels);
        own[3] = std::numeric_limits<float>::quiet_NaN();
        const std::vector<double> zeros(kModels + 4, 0.0), ones(kModels, 1.0);
        const fastroute::SuccessModel model{kModels,
                                            view(stacked),
                                            zeros.data(),
                                            centre.data(),
                                            view(clusters),
                                            of_clusters.data(),
                                            2,
                                            2,
                                            ones.data(),
                                            ones.data(),
                                            zeros.data(),
                                            ones.data(),
                                            ones.data(),
                                            ones.data(),
                                            0.01,
                                            1e9,
                                            {{view(rows), nullptr},
                                             0,
                                             centre.data(),
                                             shared.data(),
                                             own.data(),
                                             kNear,
                                             3.0,
                                             ones.data()}};
        const std::size_t all = kQueries * kModels;
        std::vector<double> many(3 * all), one(3 * kModels), threaded(3 * all);
        std::vector<fastroute::SuccessStatus> status(kQueries);
        fastroute::estimate_successes(model, view(X), 1, many.data(), many.data() + all,
                                      many.data() + 2 * all, status.data());
        fastroute::estimate_successes(model, view(X), 3, threaded.data(), threaded.data() + all,
                                      threaded.data() + 2 * all, status.data());
        check(many == threaded, level + " estimates on threads");
        bool same = true;
        for (std::size_t i = 0; i < kQueries; ++i) {
            fastroute::estimate_success(model, X.data() + i * d, one.data(), one.data() + kModels,
                                        one.data() + 2 * kModels);
            same = same && std::equal(one.begin(), one.begin() + kModels, &many[i * kModels]);
        }
        check(same, level + " estimates alone and together");
        std::vector<std::int32_t> nearest(kNear);
        std::vector<float> products(kNear), wanted(kPrompts);
        fastroute::nearest_rows({view(rows), nullptr}, X.data(), nullptr, 0, kNear, nearest.data(),
                                products.data());
        fastroute::simd::functions().dot_rows(rows.data(), kPrompts, d, X.data(), d, wanted.data());
        std::sort(wanted.begin(), wanted.end(), std::greater<>());
        check(std::equal(products.begin(), products.end(), wanted.begin()),
              level + " nearest rows");
    }
}

// Many callers at once, few of whom get the pool: each must still see every task done once.
void check_pool() {
    std::atomic<int> wrong{0};
    std::vector<std::thread> callers;
    for (int caller = 0; caller < 8; ++caller) {
        callers.emplace_back([&wrong] {
            for (int round = 0; round < 200; ++round) {
                std::vector<int> done(97, 0);
                fastroute::parallel_for(done.size(), 4, [&](std::size_t i) noexcept { ++done[i]; });
                if (std::count(done.begin(), done.end(), 1) != 97) ++wrong;
            }
        });
    }
    for (std::thread& caller : callers) caller.join();
    check(wrong.load() == 0, "the pool does every task once");
}

}  // namespace

int main() {
    const Functions scalar = functions_of("scalar");
    for (const std::string_view name : fastroute::simd::available_levels()) {
        const std::string level(name);
        std::printf("checking %s\n", level.c_str());
        const Functions simd = functions_of(name);
        check_dot_rows(scalar, simd, level);
        check_narrow_rows(scalar, simd, level);
        check_add_scaled_rows(scalar, simd, level);
        check_exp2_scaled(scalar, simd, level);
        check_kernels(level);
        check_many_models(level);
    }
    check_json_members();
    check_text(check);
    check_pool();
    check(!fastroute::simd::use_level("sse9").empty(), "an unknown level is refused");
    std::printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
