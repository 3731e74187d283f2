// SPDX-License-Identifier: MIT
//
// Makes the kernel's allocations and user copies fail, one at a time: the fault
// injection of Documentation/fault-injection, which debug kernels alone have.
#pragma once

#include <linux/netlink.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tests/guest/raw_netlink.h"

namespace hostile {

// While it lives, slab allocations, page allocations and user copies can be made
// to fail, those that may sleep included; nothing fails by itself.
class FaultInjection {
  public:
    FaultInjection();
    FaultInjection(const FaultInjection&) = delete;
    FaultInjection& operator=(const FaultInjection&) = delete;
    ~FaultInjection();

    // From now on only what happens below a function of a kernel module counts;
    // all other code is in the kernel itself, which lies before every module.
    void only_in_modules();
    // The same for one loaded module.
    void only_in(const std::string& module);

    // In any context: every interval-th slab allocation (of those that count)
    // fails, so many times at most.
    void fail_slabs(unsigned interval, unsigned times);
    // How many of those times are left.
    unsigned slab_faults_left();
    void fail_no_slabs();

  private:
    void require(std::uint64_t begin, std::uint64_t end);
};

// The fault of the thread that made it. Made as root, used as anybody.
class NthFault {
  public:
    NthFault();
    NthFault(const NthFault&) = delete;
    NthFault& operator=(const NthFault&) = delete;
    ~NthFault();

    // Runs the code, in which the n-th thing that can fail does. False if there
    // were fewer than n, so that nothing failed.
    bool during(unsigned n, const std::function<void()>& code);

  private:
    int fd_;
};

// What an attempt with a fault in it came to.
enum class Came {
    failed,   // and said so
    worked,   // what failed was not needed
    unknown,  // ENOBUFS: the request was sent, its answer was lost
};

// The errors that a failed allocation or user copy may lead to.
bool is_fault_error(int error);

// What became of the faults of one operation.
struct FaultPoints {
    unsigned failed = 0;
    unsigned worked = 0;
    unsigned unknown = 0;
    unsigned all() const { return failed + worked + unknown; }
};

// Lets an operation run with its first fault, then with its second, and so on
// until there was none left to fail, so that everything in it that can fail did
// once. attempt runs with the fault; it must do nothing but the operation, for
// its own memory's faults count. after looks at what it left and puts everything
// back; it knows what attempt said. Fails the calling test if there were fewer
// points than the operation surely has, and says on standard output how many.
FaultPoints fail_each_in_turn(NthFault& fault, const std::string& operation,
                              unsigned points_at_least, const std::function<void()>& attempt,
                              const std::function<Came(bool injected)>& after);

// The calling thread is guest::kSomebody, without effective capabilities, while
// it lives; then root again.
class Somebody {
  public:
    Somebody();
    Somebody(const Somebody&) = delete;
    Somebody& operator=(const Somebody&) = delete;
    ~Somebody();
};

// Requests and their answers without an allocation in user space, so that the
// kernel's faults are the only ones.
class Exchange {
  public:
    explicit Exchange(guest::Request request);

    // One send(). False, and the error, if the core refused.
    bool send(int fd);
    // All that is there to be read, up to the acknowledgement, the error or the
    // dump's end; waits for it if told to. What came is in the members below.
    void receive(int fd, bool wait);

    int send_error = 0;
    bool lost = false;   // ENOBUFS: an answer could not be made
    bool ended = false;  // an acknowledgement, an error or a dump's end came
    int error = 0;       // what it said
    int receive_error = 0;
    unsigned replies = 0;

    // What it all comes to for who asked.
    Came came() const;
    int said() const { return send_error != 0 ? send_error : error; }

  private:
    void take(std::size_t bytes);
    guest::Bytes bytes_;
    std::array<std::byte, 65536> buffer_;
};

}  // namespace hostile
