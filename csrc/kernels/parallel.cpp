#include "kernels/parallel.hpp"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

namespace fastroute {
namespace {

constexpr std::size_t kMostThreads = 64;

class Pool {
  public:
    // Runs the job here and on up to `helper_count` workers. False: the pool is busy.
    bool run(std::size_t task_count, std::size_t helper_count,
             void (*task)(void*, std::size_t) noexcept, void* context) {
        const std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) return false;
        grow(helper_count);
        {
            const std::lock_guard<std::mutex> lock(mutex_);
            task_ = task;
            context_ = context;
            task_count_ = task_count;
            next_.store(0, std::memory_order_relaxed);
            wanted_ = std::min(helper_count, workers_.size());
            ++job_;
        }
        wake_.notify_all();
        work();
        std::unique_lock<std::mutex> lock(mutex_);
        wanted_ = 0;  // a worker that has not woken yet has nothing left to do
        done_.wait(lock, [this] { return working_ == 0; });
        return true;
    }

  private:
    void grow(std::size_t count) {
        while (workers_.size() < std::min(count, kMostThreads)) {
            try {
                workers_.emplace_back([this] { wait_for_jobs(); });
            } catch (const std::system_error&) {
                return;  // no more threads to be had: fewer do the same work
            }
        }
    }

    void wait_for_jobs() {
        std::size_t seen = 0;
        std::unique_lock<std::mutex> lock(mutex_);
        for (;;) {
            wake_.wait(lock, [&] { return job_ != seen; });
            seen = job_;
            if (wanted_ == 0) continue;
            --wanted_;
            ++working_;
            lock.unlock();
            work();
            lock.lock();
            if (--working_ == 0) done_.notify_one();
        }
    }

    void work() noexcept {
        for (;;) {
            const std::size_t index = next_.fetch_add(1, std::memory_order_relaxed);
            if (index >= task_count_) return;
            task_(context_, index);
        }
    }

    std::mutex turn_;  // held by the caller whose job is running
    std::mutex mutex_;
    std::condition_variable wake_;
    std::condition_variable done_;
    std::vector<std::thread> workers_;
    void (*task_)(void*, std::size_t) noexcept = nullptr;
    void* context_ = nullptr;
    std::size_t task_count_ = 0;
    std::size_t wanted_ = 0;
    std::size_t working_ = 0;
    std::size_t job_ = 0;
    std::atomic<std::size_t> next_{0};
};

// Never destroyed: workers may still be waiting in it when the process ends.
std::atomic<Pool*> the_pool{nullptr};

Pool& pool() {
    static std::once_flag once;
    std::call_once(once, [] {
        the_pool.store(new Pool);
        // The child of a fork has none of the workers, and perhaps a locked mutex: a new pool.
        pthread_atfork(nullptr, nullptr, [] { the_pool.store(new Pool); });
    });
    return *the_pool.load();
}

}  // namespace

void parallel_for(std::size_t task_count, std::size_t thread_count,
                  void (*task)(void* context, std::size_t index) noexcept, void* context) {
    const std::size_t threads = std::min({thread_count, task_count, kMostThreads});
    if (threads > 1 && pool().run(task_count, threads - 1, task, context)) return;
    for (std::size_t i = 0; i < task_count; ++i) task(context, i);
}

}  // namespace fastroute
