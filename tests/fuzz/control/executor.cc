// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/executor.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iterator>
#include <sstream>
#include <system_error>
#include <utility>

#include "tests/fuzz/control/answer.h"
#include "tests/fuzz/control/grammar.h"

namespace fuzz {
namespace {

constexpr std::size_t kAnswerBytes = 1 << 17;
// Values of option from here on are groups' numbers.
constexpr std::uint64_t kGroupValue = 100000;
// More than the emulated machine maps in no time.
constexpr std::uint64_t kMostPages = 1024;

std::size_t page_bytes() { return static_cast<std::size_t>(sysconf(_SC_PAGESIZE)); }

sockaddr_nl netlink_address(std::uint64_t port, std::uint64_t groups) {
    sockaddr_nl address{};
    address.nl_family = AF_NETLINK;
    address.nl_pid = static_cast<std::uint32_t>(port);
    address.nl_groups = static_cast<std::uint32_t>(groups);
    return address;
}

}  // namespace

Executor::Executor(Rights rights, GroupIds groups, int family, Publisher& publisher, Tally& tally)
    : rights_(rights),
      groups_(std::move(groups)),
      family_(family),
      publisher_(publisher),
      tally_(tally),
      observer_(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, family)) {
    if (observer_ < 0) {
        throw std::system_error(errno, std::system_category(), "socket(AF_NETLINK)");
    }
    members_before_ = {members_of(kPublic), members_of(kLarge)};
}

Executor::~Executor() { ::close(observer_); }

void Executor::wrong(const std::string& what) {
    if (wrong_.empty()) {
        wrong_ = what;
    }
}

std::string Executor::run(const Program& program) {
    wrong_.clear();
    ++tally_.inputs;
    for (const Step& step : program) {
        carry_out_step(step);
        if (!wrong_.empty()) {
            break;
        }
    }
    for (const Slot& slot : slots_) {
        if (slot.fd >= 0) {
            read(slot);
        }
    }
    judge_members();
    unmap(nullptr);
    for (Slot& slot : slots_) {
        close(slot);
    }
    endpoints_.clear();
    judge_members();
    return wrong_;
}

void Executor::carry_out_step(const Step& step) {
    const auto number = [&](std::size_t i) {
        return i < step.numbers.size() ? step.numbers[i] : 0;
    };
    Slot& slot = slots_[number(0) % kSlots];
    if (step.verb == Verb::open) {
        open(slot, number(1));
        return;
    }
    if (step.verb == Verb::publish) {
        publisher_.publish(static_cast<unsigned>(number(0) % kGroups.size()),
                           static_cast<unsigned>(1 + number(1) % 8), number(2) % 2 != 0);
        return;
    }
    if (slot.fd < 0) {
        return;
    }
    switch (step.verb) {
        case Verb::close:
            close(slot);
            break;
        case Verb::share:
            share(slot, slots_[number(1) % kSlots]);
            break;
        case Verb::bind:
            address(slot, step, false);
            break;
        case Verb::connect:
            address(slot, step, true);
            break;
        case Verb::option:
            option(slot, number(1), number(2));
            break;
        case Verb::buffer: {
            const int bytes = static_cast<int>(number(1));
            setsockopt(slot.fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes));
            // Answers may find no room from now on.
            slot.endpoint->state.known = false;
            break;
        }
        case Verb::send:
            send(slot, step);
            break;
        case Verb::read:
            read(slot);
            break;
        case Verb::map:
            map(slot, step);
            break;
        case Verb::unmap:
            unmap(slot.endpoint.get());
            break;
        case Verb::poll:
            poll(slot);
            break;
        case Verb::forge:
            forge(slot, number(1), number(2) % 2 != 0, number(3));
            break;
        case Verb::fdinfo:
            fdinfo(slot);
            break;
        case Verb::open:
        case Verb::publish:
            break;
    }
}

void Executor::open(Slot& slot, std::uint64_t kind) {
    close(slot);
    const auto type = static_cast<int>(kind % 2 == 0 ? SOCK_RAW : SOCK_DGRAM);
    slot.fd = socket(AF_NETLINK, type | SOCK_CLOEXEC | SOCK_NONBLOCK, family_);
    if (slot.fd < 0) {
        wrong("socket(AF_NETLINK): " + std::string(strerrordesc_np(errno)));
        return;
    }
    slot.endpoint = std::make_shared<Endpoint>();
    slot.endpoint->state.holders = 1;
    endpoints_.push_back(slot.endpoint);
    // Most inputs want to know why.
    const int on = 1;
    setsockopt(slot.fd, SOL_NETLINK, NETLINK_EXT_ACK, &on, sizeof(on));
    slot.endpoint->state.ext_ack = true;
}

void Executor::close(Slot& slot) {
    if (slot.fd < 0) {
        return;
    }
    ::close(std::exchange(slot.fd, -1));
    const auto shares = [&](const Slot& other) {
        return &other != &slot && other.endpoint == slot.endpoint;
    };
    if (!slot.endpoint->pending.empty() && std::ranges::none_of(slots_, shares)) {
        // A mapping may hold the socket, whose answers nobody can read now.
        slot.endpoint->state.known = false;
    }
    if (--slot.endpoint->state.holders == 0) {
        slot.endpoint->state.joined.clear();
    }
    slot.endpoint.reset();
}

void Executor::share(const Slot& slot, Slot& other) {
    if (&slot == &other) {
        return;
    }
    close(other);
    other.fd = fcntl(slot.fd, F_DUPFD_CLOEXEC, 0);
    if (other.fd >= 0) {
        other.endpoint = slot.endpoint;
        ++other.endpoint->state.holders;
    }
}

void Executor::address(const Slot& slot, const Step& step, bool connecting) {
    const sockaddr_nl to = netlink_address(step.numbers.at(1), step.numbers.at(2));
    const auto* generic = reinterpret_cast<const sockaddr*>(&to);
    if (!connecting) {
        if (bind(slot.fd, generic, sizeof(to)) == 0 && to.nl_groups != 0) {
            // Group messages may take the answers' room.
            slot.endpoint->state.known = false;
        }
    } else if (connect(slot.fd, generic, sizeof(to)) == 0) {
        SocketState& state = slot.endpoint->state;
        state.to_kernel = to.nl_pid == 0;
        // A connected socket hears its peer alone: what else is asked there is carried out, and
        // not answered.
        state.known = state.known && state.to_kernel;
    }
}

void Executor::option(const Slot& slot, std::uint64_t number, std::uint64_t value) {
    int given = static_cast<int>(value);
    if (value >= kGroupValue && value - kGroupValue < groups_.size()) {
        given = static_cast<int>(groups_[value - kGroupValue]);
    }
    const int name = static_cast<int>(number % 32);
    const bool done = setsockopt(slot.fd, SOL_NETLINK, name, &given, sizeof(given)) == 0;
    SocketState& state = slot.endpoint->state;
    if (name == NETLINK_EXT_ACK && done) {
        state.ext_ack = given != 0;
    } else if (name == NETLINK_ADD_MEMBERSHIP && !done && errno != ENOENT && errno != EPERM &&
               errno != EINVAL && errno != ENOMEM) {
        wrong("NETLINK_ADD_MEMBERSHIP " + std::to_string(given) + ": " + strerrorname_np(errno) +
              ", which the header does not list");
    } else if ((name == NETLINK_ADD_MEMBERSHIP || name == NETLINK_NO_ENOBUFS) && done) {
        // Group messages may take the answers' room, or lost answers not be told.
        state.known = false;
    }
}

void Executor::send(const Slot& slot, const Step& step) {
    Bytes datagram;
    for (const Message& message : step.messages) {
        const Bytes bytes = encode(message, ++seq_, groups_);
        datagram.insert(datagram.end(), bytes.begin(), bytes.end());
    }
    datagram.resize(datagram.size() - std::min<std::size_t>(datagram.size(), step.numbers.at(2)));
    const std::uint64_t to = step.numbers.at(1);
    sockaddr_nl address = netlink_address(0, 0);
    bool to_kernel = true;
    if (to == 0) {
        to_kernel = slot.endpoint->state.to_kernel;
    } else if (to >= 100) {
        address.nl_groups = 1U << (groups_[(to - 100) % groups_.size()] - 1) % 32;
    } else if (to >= 2) {
        const Slot& other = slots_[to % kSlots];
        socklen_t bytes = sizeof(address);
        getsockname(other.fd >= 0 ? other.fd : slot.fd, reinterpret_cast<sockaddr*>(&address),
                    &bytes);
        address.nl_groups = 0;
        to_kernel = address.nl_pid == 0;
    }
    const ssize_t sent = to == 0
                             ? ::send(slot.fd, datagram.data(), datagram.size(), MSG_DONTWAIT)
                             : sendto(slot.fd, datagram.data(), datagram.size(), MSG_DONTWAIT,
                                      reinterpret_cast<const sockaddr*>(&address), sizeof(address));
    if (sent < 0 || !to_kernel) {
        return;
    }
    Datagram apart = take_apart(datagram);
    tally_.requests += apart.requests.size();
    for (Request& request : apart.requests) {
        request.ext_ack = slot.endpoint->state.ext_ack;
        slot.endpoint->pending.push_back(std::move(request));
    }
    slot.endpoint->broken_ends += apart.malformed_end ? 1 : 0;
}

void Executor::map(const Slot& slot, const Step& step) {
    const SocketState& state = slot.endpoint->state;
    const std::size_t page = page_bytes();
    const std::size_t offset = step.numbers.at(1) % kMostPages * page;
    std::size_t bytes = step.numbers.at(2) % kMostPages * page;
    if (bytes == 0) {
        bytes = offset == 0 ? page : page + 2 * std::size_t{state.ring_bytes};
    }
    const int rights = static_cast<int>(step.numbers.at(3) & (PROT_READ | PROT_WRITE | PROT_EXEC));
    const int flags = step.numbers.at(4) % 2 != 0 ? MAP_SHARED : MAP_PRIVATE;
    void* address = mmap(nullptr, bytes, rights, flags, slot.fd, static_cast<off_t>(offset));
    if (address == MAP_FAILED) {
        if (errno != ENODEV && errno != EINVAL && errno != EPERM && errno != EAGAIN &&
            errno != ENOMEM && errno != EACCES) {
            wrong(std::string("mmap: ") + strerrorname_np(errno) +
                  ", which the header does not list");
        }
        return;
    }
    const bool consumer = offset == 0 && (rights & PROT_WRITE) != 0;
    mappings_.push_back({static_cast<std::byte*>(address), bytes, consumer, slot.endpoint});
    ++slot.endpoint->state.holders;
    if (flags != MAP_SHARED || (rights & PROT_EXEC) != 0 ||
        (offset != 0 && (rights & PROT_WRITE) != 0)) {
        wrong("mmap gave rights that the header refuses");
    }
    if ((rights & PROT_READ) == 0) {
        return;
    }
    for (std::size_t at = 0; at < bytes; at += page) {
        std::atomic_ref<std::byte>(mappings_.back().address[at]).load();
    }
}

void Executor::unmap(const Endpoint* endpoint) {
    std::erase_if(mappings_, [&](Mapping& mapping) {
        if (endpoint != nullptr && mapping.endpoint.get() != endpoint) {
            return false;
        }
        munmap(mapping.address, mapping.bytes);
        if (--mapping.endpoint->state.holders == 0) {
            mapping.endpoint->state.joined.clear();
        }
        return true;
    });
}

void Executor::forge(const Slot& slot, std::uint64_t word, bool relative, std::uint64_t value) {
    const auto found = std::ranges::find_if(mappings_, [&](const Mapping& mapping) {
        return mapping.consumer && mapping.endpoint == slot.endpoint;
    });
    if (found == mappings_.end()) {
        return;
    }
    // position, watermark with reserved, lost_seen
    auto* words = reinterpret_cast<std::uint64_t*>(found->address);
    const std::atomic_ref<std::uint64_t> shared(words[word % 3]);
    shared.store(relative ? shared.load() + value : value, std::memory_order_release);
}

void Executor::poll(const Slot& slot) {
    pollfd asked{.fd = slot.fd, .events = POLLIN | POLLRDBAND, .revents = 0};
    if (::poll(&asked, 1, 0) < 0) {
        wrong("poll: " + std::string(strerrordesc_np(errno)));
    }
}

void Executor::fdinfo(const Slot& slot) {
    std::ifstream file("/proc/self/fdinfo/" + std::to_string(slot.fd));
    const std::string text((std::istreambuf_iterator<char>(file)),
                           std::istreambuf_iterator<char>());
    const SocketState& state = slot.endpoint->state;
    if (state.known && slot.endpoint->pending.empty() &&
        (text.find("rx-bytes:") != std::string::npos) != (state.ring_bytes != 0)) {
        wrong("fdinfo and the answers disagree about whether there is a ring:\n" + text);
    }
}

void Executor::read(const Slot& slot) {
    Endpoint& endpoint = *slot.endpoint;
    Bytes datagram(kAnswerBytes);
    for (;;) {
        sockaddr_nl from{};
        socklen_t from_bytes = sizeof(from);
        datagram.resize(kAnswerBytes);
        const ssize_t got = recvfrom(slot.fd, datagram.data(), datagram.size(), MSG_DONTWAIT,
                                     reinterpret_cast<sockaddr*>(&from), &from_bytes);
        if (got < 0 && errno == EAGAIN) {
            break;
        }
        if (got < 0) {
            // ENOBUFS: answers were lost.
            endpoint.state.known = false;
            if (errno != ENOBUFS) {
                wrong(std::string("recv: ") + strerrorname_np(errno));
                return;
            }
            continue;
        }
        datagram.resize(static_cast<std::size_t>(got));
        if (from.nl_pid == 0) {
            judge_datagram(endpoint, datagram);
        }
    }
    settle_before(endpoint, seq_ + 1);
    endpoint.state.dumping = false;
    if (endpoint.state.known && endpoint.broken_ends != 0) {
        wrong("a datagram with a broken end was not answered with EBADMSG");
    }
    endpoint.broken_ends = 0;
}

void Executor::judge_datagram(Endpoint& endpoint, const Bytes& datagram) {
    std::size_t at = 0;
    while (at + sizeof(nlmsghdr) <= datagram.size()) {
        nlmsghdr header{};
        std::memcpy(&header, datagram.data() + at, sizeof(header));
        if (header.nlmsg_len < sizeof(header) || header.nlmsg_len > datagram.size() - at) {
            wrong("the kernel's answer is not well-formed netlink");
            return;
        }
        const auto begin = datagram.begin() + static_cast<std::ptrdiff_t>(at);
        const Bytes payload(begin + sizeof(header), begin + header.nlmsg_len);
        at += NLMSG_ALIGN(header.nlmsg_len);
        if (header.nlmsg_type == NLMSG_ERROR) {
            judge_error(endpoint, header.nlmsg_seq, payload, header.nlmsg_flags);
        } else if (header.nlmsg_type < NLMMAP_MSG_PRODUCER_MIN &&
                   header.nlmsg_type >= NLMMAP_MSG_SOCKET) {
            judge_answer(endpoint, header.nlmsg_type, header.nlmsg_flags, payload);
        }
    }
}

void Executor::judge_error(Endpoint& endpoint, std::uint32_t seq, const Bytes& payload,
                           std::uint16_t flags) {
    int error = 0;
    if (payload.size() < sizeof(nlmsgerr)) {
        wrong("an NLMSG_ERROR of " + std::to_string(payload.size()) + " bytes");
        return;
    }
    std::memcpy(&error, payload.data(), sizeof(error));
    error = -error;
    const std::string sentence = sentence_of(payload, flags);
    if (error == EBADMSG) {
        if (endpoint.broken_ends == 0 && endpoint.state.known) {
            wrong("EBADMSG, though every datagram ended as it should");
        }
        if (sentence.empty()) {
            wrong("EBADMSG without a sentence");
        }
        endpoint.broken_ends -= endpoint.broken_ends != 0 ? 1 : 0;
        ++tally_.refused;
        return;
    }
    settle_before(endpoint, seq);
    const auto request = std::ranges::find(endpoint.pending, seq, &Request::seq);
    if (request == endpoint.pending.end()) {
        if (endpoint.state.known) {
            wrong("an answer (" + errno_names({error}) + ", \"" + sentence +
                  "\") to something that was not sent, or answered before");
        }
        return;
    }
    if (error == 0 && !request->wants_ack()) {
        wrong("an acknowledgement that nobody asked for: " + describe(*request));
    }
    settle(endpoint, *request, error, sentence);
    endpoint.pending.erase(request);
}

void Executor::settle_before(Endpoint& endpoint, std::uint32_t seq) {
    while (!endpoint.pending.empty() && endpoint.pending.front().seq < seq) {
        Request request = std::move(endpoint.pending.front());
        endpoint.pending.pop_front();
        // A dump's end is its answer.
        if (request.wants_ack() && !request.is_dump() && endpoint.state.known) {
            wrong("no answer to a request: " + describe(request));
            return;
        }
        settle(endpoint, request, 0, "");
    }
}

void Executor::settle(Endpoint& endpoint, Request& request, int error,
                      const std::string& sentence) {
    SocketState& state = endpoint.state;
    if (error == ENOBUFS && request.is_dump()) {
        // The core's word: the socket is full of answers. The dump goes on when they are read.
        state.dumping = true;
        return;
    }
    if (state.known) {
        const std::set<int> allowed = expected(request, state, rights_, groups_);
        if (!allowed.contains(error)) {
            wrong(describe(request) + ": answered " + errno_names({error}) + " (\"" + sentence +
                  "\"), expected was " + errno_names(allowed));
            return;
        }
    }
    if (error == 0) {
        ++tally_.carried_out;
        carry_out(request, state, groups_);
        return;
    }
    ++tally_.refused;
    // ENOBUFS is the core's: there was no room to answer in.
    if (error == ENOBUFS && !state.known) {
        return;
    }
    if (!is_documented(request.type, error)) {
        wrong(describe(request) + ": " + errno_names({error}) +
              ", which the header does not list for it");
    } else if (request.ext_ack && sentence.find(' ') == std::string::npos) {
        wrong(describe(request) + ": " + errno_names({error}) +
              " without a sentence for people: \"" + sentence + "\"");
    }
}

void Executor::judge_answer(const Endpoint& endpoint, std::uint16_t type, std::uint16_t flags,
                            const Bytes& payload) {
    // A dump tells of others, and what was asked later may have been done already.
    if (type != NLMMAP_MSG_SOCKET || (flags & NLM_F_MULTI) != 0) {
        return;
    }
    const std::uint32_t bytes = u32_of(payload, NLMMAP_A_RX_BYTES);
    const std::uint32_t before = endpoint.state.ring_bytes;
    if (bytes == 0 || (endpoint.state.known && before != 0 && before != bytes)) {
        wrong("SOCKET says that the ring has " + std::to_string(bytes) + " bytes, after " +
              std::to_string(before));
    }
    if (attributes_of(payload, 0, NLMMAP_A_GROUP_ID).size() > kGroupCount) {
        wrong("SOCKET tells more groups than there are");
    }
}

std::uint32_t Executor::members_of(unsigned group) {
    if (!rights_.sees_groups) {
        return 0;
    }
    Message message{.type = NLMMAP_MSG_GROUP_GET, .flags = NLM_F_REQUEST};
    message.attributes.push_back(
        {.type = NLMMAP_A_GROUP_ID, .value = {.kind = Value::Kind::group, .number = group}});
    const Bytes request = encode(message, 1, groups_);
    Bytes answer(4096);
    if (::send(observer_, request.data(), request.size(), 0) < 0) {
        wrong("asking for a group's members: " + std::string(strerrordesc_np(errno)));
        return 0;
    }
    const ssize_t got = recv(observer_, answer.data(), answer.size(), MSG_DONTWAIT);
    nlmsghdr header{};
    std::memcpy(&header, answer.data(), sizeof(header));
    if (got < static_cast<ssize_t>(sizeof(header)) || header.nlmsg_type != NLMMAP_MSG_GROUP) {
        wrong("asking for a group's members: no answer");
        return 0;
    }
    return u32_of(Bytes(answer.begin() + sizeof(header), answer.begin() + got), NLMMAP_A_MEMBERS);
}

void Executor::judge_members() {
    const std::array<unsigned, 2> watched = {kPublic, kLarge};
    for (std::size_t i = 0; i < watched.size(); ++i) {
        std::uint32_t joined = members_before_[i];
        for (const auto& endpoint : endpoints_) {
            // Of one whose answers were lost nobody knows, and of one that is closed none is left.
            if (!endpoint->state.known && endpoint->state.holders != 0) {
                return;
            }
            joined += endpoint->state.joined.contains(watched[i]) ? 1 : 0;
        }
        const std::uint32_t members = members_of(watched[i]);
        if (wrong_.empty() && members != joined) {
            wrong("group " + std::string(kGroups[watched[i]]) + " has " + std::to_string(members) +
                  " members, " + std::to_string(joined) + " sockets joined it");
        }
    }
}

}  // namespace fuzz
