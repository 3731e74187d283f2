// SPDX-License-Identifier: MIT
//
// Carries an input out, and judges every answer.
#pragma once

#include <linux/netlink.h>
#include <sys/types.h>

#include <array>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "tests/fuzz/control/model.h"
#include "tests/fuzz/control/program.h"

namespace fuzz {

// Publishes some messages to one of the groups.
class Publisher {
  public:
    virtual ~Publisher() = default;
    virtual void publish(unsigned group, unsigned count, bool in_place) = 0;
};

// What the guest's fuzzer counts.
struct Tally {
    std::uint64_t inputs = 0;
    std::uint64_t requests = 0;
    std::uint64_t refused = 0;
    std::uint64_t carried_out = 0;
};

class Executor {
  public:
    Executor(Rights rights, GroupIds groups, int family, Publisher& publisher, Tally& tally);
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    ~Executor();

    // Runs it on sockets of its own, which are all closed afterwards. "" or what is wrong.
    std::string run(const Program& program);

  private:
    struct Endpoint {
        SocketState state;
        std::list<Request> pending;   // sent and not answered
        std::size_t broken_ends = 0;  // EBADMSG is to come so often
        bool foreign = false;         // of another family: nothing here is judged
        bool attach_asked = false;
    };
    struct Slot {
        int fd = -1;
        std::shared_ptr<Endpoint> endpoint;
    };
    struct Mapping {
        std::byte* address;
        std::size_t bytes;
        bool consumer;
        std::shared_ptr<Endpoint> endpoint;
    };

    void carry_out_step(const Step& step);
    void open(Slot& slot, std::uint64_t kind);
    void close(Slot& slot);
    void share(const Slot& slot, Slot& other);
    void address(const Slot& slot, const Step& step, bool connecting);
    void option(const Slot& slot, std::uint64_t number, std::uint64_t value);
    void send(const Slot& slot, const Step& step);
    void read(const Slot& slot);
    void map(const Slot& slot, const Step& step);
    void unmap(const Endpoint* endpoint);
    void forge(const Slot& slot, std::uint64_t word, bool relative, std::uint64_t value);
    void poll(const Slot& slot);
    void fdinfo(const Slot& slot);

    Named name(Request& request);
    void read_foreign(const Slot& slot);

    void judge_datagram(Endpoint& endpoint, const Bytes& datagram);
    void judge_error(Endpoint& endpoint, std::uint32_t seq, const Bytes& payload,
                     std::uint16_t flags);
    void judge_answer(const Endpoint& endpoint, const nlmsghdr& header, const Bytes& payload);
    void settle(Endpoint& endpoint, Request& request, int error, const std::string& sentence);
    // Those before this number are not to be answered any more.
    void settle_before(Endpoint& endpoint, std::uint32_t seq);
    void judge_members();
    std::uint32_t members_of(unsigned group);
    void wrong(const std::string& what);

    Rights rights_;
    GroupIds groups_;
    int family_;
    Publisher& publisher_;
    Tally& tally_;
    int observer_;
    std::uint32_t seq_ = 0;
    std::array<std::uint32_t, 2> members_before_{};
    std::array<Slot, kSlots> slots_;
    std::vector<Mapping> mappings_;
    std::vector<std::shared_ptr<Endpoint>> endpoints_;
    // Which socket a request not answered yet asks a ring for, by its nlmsg_seq.
    std::map<std::uint32_t, std::shared_ptr<Endpoint>> attaching_;
    std::string wrong_;
};

}  // namespace fuzz
