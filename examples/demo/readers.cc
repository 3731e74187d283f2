// SPDX-License-Identifier: MIT
#include "examples/demo/readers.h"

#include <unistd.h>

#include <algorithm>
#include <exception>
#include <nlmmap/nlmmap.hpp>
#include <stdexcept>

namespace demo {
namespace {

void fail(Progress& progress, const std::exception& error) {
    progress.error = error.what();
    // Pairs with the acquire in await_ready().
    progress.failed.store(true, std::memory_order_release);
}

}  // namespace

void Progress::set(const Tally& tally) noexcept {
    forks_.store(tally.counts.forks, std::memory_order_relaxed);
    execs_.store(tally.counts.execs, std::memory_order_relaxed);
    exits_.store(tally.counts.exits, std::memory_order_relaxed);
    others_.store(tally.others, std::memory_order_relaxed);
}

Counts Progress::counts() const noexcept {
    return {forks_.load(std::memory_order_relaxed), execs_.load(std::memory_order_relaxed),
            exits_.load(std::memory_order_relaxed)};
}

void Progress::release() noexcept {
    hold_.store(Hold::none);
    hold_.notify_all();
}

void Progress::wait_while_held() noexcept {
    Hold asked = Hold::asked;
    if (hold_.load(std::memory_order_relaxed) == Hold::asked &&
        hold_.compare_exchange_strong(asked, Hold::held))
        hold_.wait(Hold::held);
}

void Samples::ask(std::size_t events) noexcept {
    taken_ = 0;
    asked_ = std::min(events, kMost);
    // Pairs with the acquire in offer().
    wanted_.store(asked_ != 0, std::memory_order_release);
}

bool Samples::ready() const noexcept {
    // Pairs with the release in offer().
    return asked_ != 0 && !wanted_.load(std::memory_order_acquire);
}

void Samples::offer(const nlmmap::Message& message) noexcept {
    // Pairs with the release in ask().
    if (!wanted_.load(std::memory_order_acquire)) return;
    const std::optional<Event> event = decode(message);
    if (!event) return;
    events_[taken_++] = *event;
    // Pairs with the acquire in ready().
    if (taken_ == asked_) wanted_.store(false, std::memory_order_release);
}

RingReader::RingReader(std::size_t ring_bytes, std::uint32_t watermark_bytes,
                       std::chrono::milliseconds latency)
    : thread_([this, ring_bytes, watermark_bytes, latency](std::stop_token stop) {
          try {
              run(stop, ring_bytes, watermark_bytes, latency);
          } catch (const std::exception& error) {
              fail(progress, error);
          }
      }) {}

void RingReader::run(std::stop_token stop, std::size_t ring_bytes, std::uint32_t watermark_bytes,
                     std::chrono::milliseconds latency) {
    nlmmap::Receiver receiver = nlmmap::Receiver::join(
        PROCESS_EVENTS_GROUP, {.ring_bytes = ring_bytes, .watermark_bytes = watermark_bytes});
    Tally tally;
    progress.tid = gettid();
    while (!stop.stop_requested()) {
        if (receiver.wait(latency) == nlmmap::Wait::group_gone)
            throw std::runtime_error("the group process_events was deleted");
        for (const nlmmap::Record& record : receiver.read()) {
            for (const nlmmap::Message& message : record) {
                tally.add(message);
                samples.offer(message);
            }
        }
        progress.set(tally);
        progress.lost.store(receiver.lost(), std::memory_order_relaxed);
        progress.wait_while_held();
    }
}

ConnectorReader::ConnectorReader(std::size_t bytes, std::chrono::milliseconds latency)
    : thread_([this, bytes, latency](std::stop_token stop) {
          try {
              run(stop, bytes, latency);
          } catch (const std::exception& error) {
              fail(progress, error);
          }
      }) {}

void ConnectorReader::run(std::stop_token stop, std::size_t bytes,
                          std::chrono::milliseconds latency) {
    Connector connector(bytes);
    connector.set_timeout(latency);
    receive_buffer_bytes = connector.receive_buffer_bytes();
    Tally tally;
    std::uint64_t overflows = 0;
    progress.tid = gettid();
    while (!stop.stop_requested()) {
        if (connector.receive(tally) == Connector::Result::overflowed)
            progress.lost.store(++overflows, std::memory_order_relaxed);
        progress.set(tally);
        progress.wait_while_held();
    }
}

void await_ready(const Progress& progress) {
    while (progress.tid == 0) {
        // Pairs with the release in fail().
        if (progress.failed.load(std::memory_order_acquire))
            throw std::runtime_error(progress.error);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
}

}  // namespace demo
