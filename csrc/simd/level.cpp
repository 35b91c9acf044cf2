#include "simd/level.hpp"

#include <array>
#include <atomic>

namespace fastroute::simd {
namespace {

struct Level {
    std::string_view name;
    const Functions& (*functions)() noexcept;
    bool (*runs_here)() noexcept;
};

constexpr std::array kLevels = {
    Level{"scalar", scalar_functions, []() noexcept { return true; }},
#if defined(FASTROUTE_X86)
    Level{"avx2", avx2_functions,
          []() noexcept {
              return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("fma") != 0 &&
                     __builtin_cpu_supports("f16c") != 0;
          }},
    Level{"avx512", avx512_functions,
          []() noexcept {
              return __builtin_cpu_supports("avx512f") != 0 &&
                     __builtin_cpu_supports("avx512bw") != 0 &&
                     __builtin_cpu_supports("avx512dq") != 0 &&
                     __builtin_cpu_supports("avx512vl") != 0 && __builtin_cpu_supports("fma") != 0;
          }},
#elif defined(FASTROUTE_ARM64)
    Level{"neon", neon_functions, []() noexcept { return true; }},
#endif
};

struct Active {
    std::string_view name;
    Functions functions;
};

const Active* table_of(const Level& level) {
    // One immutable table a level, made at first use and kept for ever, so that a thread in the
    // middle of a call never sees half a change.
    static const std::array<Active, kLevels.size()> tables = [] {
        std::array<Active, kLevels.size()> made{};
        for (std::size_t i = 0; i < kLevels.size(); ++i) {
            made[i] = {kLevels[i].name, kLevels[i].functions()};
        }
        return made;
    }();
    return &tables[static_cast<std::size_t>(&level - kLevels.data())];
}

const Active* best() {
    const Active* found = table_of(kLevels.front());
    for (const Level& level : kLevels) {
        if (level.runs_here()) found = table_of(level);
    }
    return found;
}

std::atomic<const Active*>& active() noexcept {
    static std::atomic<const Active*> current{best()};
    return current;
}

}  // namespace

std::vector<std::string_view> available_levels() {
    std::vector<std::string_view> names;
    for (const Level& level : kLevels) {
        if (level.runs_here()) names.push_back(level.name);
    }
    return names;
}

std::string_view active_level() noexcept { return active().load(std::memory_order_acquire)->name; }

std::string use_level(std::string_view name) {
    if (name.empty() || name == "auto") {
        active().store(best(), std::memory_order_release);
        return {};
    }
    for (const Level& level : kLevels) {
        if (level.name == name && level.runs_here()) {
            active().store(table_of(level), std::memory_order_release);
            return {};
        }
    }
    std::string message("'");
    message.append(name).append("' is not a SIMD level of this machine; use ");
    for (const std::string_view available : available_levels()) {
        message.append(available).append(", ");
    }
    return message + "or auto";
}

const Functions& functions() noexcept {
    return active().load(std::memory_order_acquire)->functions;
}

}  // namespace fastroute::simd
