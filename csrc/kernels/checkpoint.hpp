// A way out of long work: the caller's function is called about every tenth of a second.
#pragma once

#include <cstddef>

namespace fastroute {

class Checkpoint {
  public:
    // `call` may throw, which ends the work; null is never called.
    explicit Checkpoint(void (*call)()) : call_(call) {}

    // Reports work of about so many nanoseconds.
    void after(std::size_t nanoseconds) {
        since_ += nanoseconds;
        if (since_ < kBetweenCalls || call_ == nullptr) return;
        since_ = 0;
        call_();
    }

  private:
    static constexpr std::size_t kBetweenCalls = 100'000'000;

    void (*call_)();
    std::size_t since_ = 0;
};

}  // namespace fastroute
