// SPDX-License-Identifier: MIT
// The two readers of the demo, each a thread: one reads the ring, one the proc connector.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <string>
#include <thread>

#include "examples/demo/connector.h"
#include "examples/demo/event.h"

namespace demo {

// What a reader tells the other threads while it reads, without a lock or a system call.
class Progress {
  public:
    void set(const Tally& tally) noexcept;
    Counts counts() const noexcept;
    std::uint64_t others() const noexcept { return others_.load(std::memory_order_relaxed); }

    // The reader is held up while somebody else holds it: as a daemon that is busy elsewhere.
    void hold() noexcept { hold_.store(Hold::asked); }
    bool is_held() const noexcept { return hold_.load() == Hold::held; }
    void release() noexcept;
    void wait_while_held() noexcept;  // the reader's side

    std::atomic<pid_t> tid = 0;           // 0: not ready yet
    std::atomic<std::uint64_t> lost = 0;  // ring: as it counted; connector: times ENOBUFS
    std::atomic<bool> failed = false;     // error is set
    std::string error;

  private:
    enum class Hold { none, asked, held };

    std::atomic<Hold> hold_ = Hold::none;
    std::atomic<std::uint64_t> forks_ = 0;
    std::atomic<std::uint64_t> execs_ = 0;
    std::atomic<std::uint64_t> exits_ = 0;
    std::atomic<std::uint64_t> others_ = 0;
};

// Room for some events that the ring's reader copies, on demand, for another thread to print.
class Samples {
  public:
    static constexpr std::size_t kMost = 8;

    void ask(std::size_t events) noexcept;  // the printer's side; at most kMost
    bool ready() const noexcept;            // the printer may look at events()
    std::span<const Event> events() const noexcept { return {events_.data(), taken_}; }

    void offer(const nlmmap::Message& message) noexcept;  // the reader's side

  private:
    std::array<Event, kMost> events_;
    std::size_t taken_ = 0;
    std::size_t asked_ = 0;
    std::atomic<bool> wanted_ = false;
};

class RingReader {
  public:
    // Joins the group and reads until the object ends. @watermark_bytes: how much must wait before
    // the kernel wakes the reader earlier than after @latency: the longest that an event waits to
    // be seen.
    RingReader(std::size_t ring_bytes, std::uint32_t watermark_bytes,
               std::chrono::milliseconds latency);

    Progress progress;
    Samples samples;

  private:
    void run(std::stop_token stop, std::size_t ring_bytes, std::uint32_t watermark_bytes,
             std::chrono::milliseconds latency);
    std::jthread thread_;
};

class ConnectorReader {
  public:
    // @latency: how long one recv() waits at most.
    ConnectorReader(std::size_t receive_buffer_bytes, std::chrono::milliseconds latency);

    Progress progress;
    std::atomic<std::size_t> receive_buffer_bytes = 0;

  private:
    void run(std::stop_token stop, std::size_t receive_buffer_bytes,
             std::chrono::milliseconds latency);
    std::jthread thread_;
};

// Returns when the reader is ready. Throws std::runtime_error with its error if it failed.
void await_ready(const Progress& progress);

}  // namespace demo
