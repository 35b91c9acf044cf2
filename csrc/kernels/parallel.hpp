// A loop over tasks on a small pool of threads. The pool is the library's own: FAISS brings an
// OpenMP runtime, and two of them in one process is one too many.
#pragma once

#include <cstddef>
#include <type_traits>

namespace fastroute {

// Calls task(context, i) once for each i in [0, task_count), on at most `thread_count` threads, of
// which the caller's is one. Which thread runs which task is left open, so a task may write only
// to places of its own. When another thread is using the pool, the caller does it all alone: the
// results are the same. Survives fork(): a child starts with a new pool.
void parallel_for(std::size_t task_count, std::size_t thread_count,
                  void (*task)(void* context, std::size_t index) noexcept, void* context);

template <typename Function>
void parallel_for(std::size_t task_count, std::size_t thread_count, Function&& function) {
    parallel_for(
        task_count, thread_count,
        [](void* context, std::size_t index) noexcept {
            (*static_cast<std::remove_reference_t<Function>*>(context))(index);
        },
        &function);
}

}  // namespace fastroute
