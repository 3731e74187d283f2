// SPDX-License-Identifier: MIT
#include "tests/hostile/faults.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <limits>
#include <stdexcept>
#include <system_error>
#include <utility>

#include "tests/guest/surroundings.h"

namespace hostile {
namespace {

constexpr std::array kCapabilities{"failslab", "fail_page_alloc", "fail_usercopy"};
// More than any operation here has: the end of a loop that would not end.
constexpr unsigned kPointsAtMost = 20000;

[[noreturn]] void fail(const std::string& operation) {
    throw std::system_error(errno, std::system_category(), operation);
}

std::string path_of(const std::string& capability, const std::string& knob) {
    return "/sys/kernel/debug/" + capability + "/" + knob;
}

void set(const std::string& capability, const std::string& knob, const std::string& value) {
    std::ofstream file(path_of(capability, knob));
    file << value << std::flush;
    if (!file) {
        throw std::runtime_error("cannot set " + path_of(capability, knob) +
                                 ": is this a debug kernel, with debugfs mounted?");
    }
}

void set_all(const std::string& knob, const std::string& value) {
    for (const char* capability : kCapabilities) {
        set(capability, knob, value);
    }
}

}  // namespace

FaultInjection::FaultInjection() {
    set_all("probability", "0");
    set_all("interval", "1");
    set_all("times", "-1");
    set_all("space", "0");
    set_all("verbose", "0");
    set_all("task-filter", "N");
    set("failslab", "ignore-gfp-wait", "N");
    set("fail_page_alloc", "ignore-gfp-wait", "N");
    set("fail_page_alloc", "min-order", "0");
    require(0, std::numeric_limits<std::uint64_t>::max());
}

FaultInjection::~FaultInjection() {
    try {
        set_all("probability", "0");
        require(0, std::numeric_limits<std::uint64_t>::max());
    } catch (const std::exception& error) {
        ADD_FAILURE() << error.what();
    }
}

void FaultInjection::require(std::uint64_t begin, std::uint64_t end) {
    set_all("stacktrace-depth", "32");
    // In an order that never leaves the range empty.
    set_all("require-start", "0");
    set_all("require-end", std::to_string(end));
    set_all("require-start", std::to_string(begin));
}

void FaultInjection::only_in_modules() {
    std::ifstream symbols("/proc/kallsyms");
    std::string address;
    std::string type;
    std::string name;
    while (symbols >> address >> type >> name) {
        if (name == "_end") {
            require(std::stoull(address, nullptr, 16), std::numeric_limits<std::uint64_t>::max());
            return;
        }
    }
    throw std::runtime_error("no _end in /proc/kallsyms");
}

void FaultInjection::only_in(const std::string& module) {
    std::ifstream symbols("/proc/kallsyms");
    std::string line;
    std::uint64_t begin = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t end = 0;
    while (std::getline(symbols, line)) {
        if (!line.ends_with("[" + module + "]")) {
            continue;
        }
        const char type = line.at(line.find(' ') + 1);
        if (type == 't' || type == 'T') {
            const std::uint64_t address = std::stoull(line, nullptr, 16);
            begin = std::min(begin, address);
            end = std::max(end, address);
        }
    }
    if (end == 0) {
        throw std::runtime_error("no function of " + module + " in /proc/kallsyms");
    }
    // The last function's length is not told; modules do not share pages.
    require(begin, (end | 4095) + 1);
}

void FaultInjection::fail_slabs(unsigned interval, unsigned times) {
    set("failslab", "interval", std::to_string(interval));
    set("failslab", "times", std::to_string(times));
    set("failslab", "probability", "100");
}

unsigned FaultInjection::slab_faults_left() {
    std::ifstream file(path_of("failslab", "times"));
    unsigned times = 0;
    if (!(file >> times)) {
        throw std::runtime_error("cannot read " + path_of("failslab", "times"));
    }
    return times;
}

void FaultInjection::fail_no_slabs() {
    set("failslab", "probability", "0");
    set("failslab", "interval", "1");
    set("failslab", "times", "-1");
}

NthFault::NthFault() : fd_(open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC)) {
    if (fd_ < 0) {
        fail("open /proc/thread-self/fail-nth (is this a debug kernel?)");
    }
}

NthFault::~NthFault() { close(fd_); }

bool NthFault::during(unsigned n, const std::function<void()>& code) {
    std::array<char, 16> text{};
    const int length = std::snprintf(text.data(), text.size(), "%u", n);
    if (pwrite(fd_, text.data(), static_cast<std::size_t>(length), 0) != length) {
        fail("writing fail-nth");
    }
    code();
    // EFAULT: copying the answer was the thing that failed.
    const ssize_t got = pread(fd_, text.data(), text.size() - 1, 0);
    const bool left = got < 0 ? errno == EFAULT : text[0] != '0';
    while (pwrite(fd_, "0", 1, 0) != 1) {
        if (errno != EFAULT) {
            fail("writing fail-nth");
        }
    }
    return !left;
}

bool is_fault_error(int error) { return error == ENOMEM || error == EFAULT || error == ENOBUFS; }

FaultPoints fail_each_in_turn(NthFault& fault, const std::string& operation,
                              unsigned points_at_least, const std::function<void()>& attempt,
                              const std::function<Came(bool injected)>& after) {
    FaultPoints points;
    bool injected = true;
    for (unsigned n = 1; injected; ++n) {
        if (n > kPointsAtMost || testing::Test::HasFailure()) {
            ADD_FAILURE() << operation << ": stopped at fault point " << n;
            return points;
        }
        SCOPED_TRACE(operation + ", fault point " + std::to_string(n));
        injected = fault.during(n, attempt);
        const Came came = after(injected);
        if (!injected) {
            EXPECT_EQ(came, Came::worked) << "though nothing was made to fail";
            break;
        }
        ++(came == Came::failed   ? points.failed
           : came == Came::worked ? points.worked
                                  : points.unknown);
    }
    std::printf("fault points of %s: %u (%u failed, %u worked all the same, %u lost the answer)\n",
                operation.c_str(), points.all(), points.failed, points.worked, points.unknown);
    std::fflush(stdout);
    EXPECT_GE(points.all(), points_at_least)
        << operation << ": so few allocations and copies cannot be all of them";
    return points;
}

Somebody::Somebody() {
    // For the calling thread alone; the saved user allows the way back.
    if (syscall(SYS_setresuid, guest::kSomebody, guest::kSomebody, 0) != 0) {
        fail("setresuid");
    }
}

Somebody::~Somebody() {
    if (syscall(SYS_setresuid, 0, 0, 0) != 0) {
        ADD_FAILURE() << "the test cannot become root again";
    }
}

Exchange::Exchange(guest::Request request) : bytes_(request.bytes()), buffer_{} {}

bool Exchange::send(int fd) {
    send_error = 0;
    lost = ended = false;
    error = receive_error = 0;
    replies = 0;
    if (::send(fd, bytes_.data(), bytes_.size(), 0) < 0) {
        send_error = errno;
    }
    return send_error == 0;
}

void Exchange::receive(int fd, bool wait) {
    while (!ended) {
        const ssize_t got = recv(fd, buffer_.data(), buffer_.size(), wait ? 0 : MSG_DONTWAIT);
        if (got >= 0) {
            take(static_cast<std::size_t>(got));
            continue;
        }
        if (errno == ENOBUFS && !lost) {
            lost = true;
            wait = false;
            continue;
        }
        if (errno != EAGAIN) {
            receive_error = errno;
        }
        return;
    }
}

void Exchange::take(std::size_t bytes) {
    for (std::size_t at = 0; at + sizeof(nlmsghdr) <= bytes;) {
        nlmsghdr header;
        std::memcpy(&header, buffer_.data() + at, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || at + header.nlmsg_len > bytes) {
            receive_error = EBADMSG;
            return;
        }
        if (header.nlmsg_type == NLMSG_ERROR || header.nlmsg_type == NLMSG_DONE) {
            int code = 0;
            std::memcpy(&code, buffer_.data() + at + sizeof(header), sizeof(code));
            error = -code;
            ended = true;
        } else {
            ++replies;
        }
        at += NLMSG_ALIGN(header.nlmsg_len);
    }
}

Came Exchange::came() const {
    if (send_error != 0 || receive_error != 0 || error != 0) {
        return Came::failed;
    }
    return ended ? Came::worked : Came::unknown;
}

}  // namespace hostile
