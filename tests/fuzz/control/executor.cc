// SPDX-License-Identifier: MIT
#include "tests/fuzz/control/executor.h"

#include <fcntl.h>
#include <linux/netlink.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
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
    attaching_.clear();
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
    const bool foreign = kind % 4 >= 2;
    const int family = !foreign ? family_ : kind % 2 == 0 ? NETLINK_GENERIC : NETLINK_USERSOCK;
    slot.fd = socket(AF_NETLINK, type | SOCK_CLOEXEC | SOCK_NONBLOCK, family);
    if (slot.fd < 0) {
        wrong("socket(AF_NETLINK): " + std::string(strerrordesc_np(errno)));
        return;
    }
    slot.endpoint = std::make_shared<Endpoint>();
    slot.endpoint->state.holders = 1;
    slot.endpoint->foreign = foreign;
    slot.endpoint->state.known = !foreign;
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
    if (slot.endpoint->foreign) {
        return;
    }
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

// What the descriptor in it stands for now.
Named Executor::name(Request& request) {
    const int fd = static_cast<int>(request.descriptor().value_or(0));
    struct stat status{};
    if (fstat(fd, &status) != 0) {
        return Named::nothing;
    }
    int domain = 0;
    int protocol = 0;
    socklen_t bytes = sizeof(int);
    if (getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &bytes) != 0) {
        return Named::file;
    }
    if (domain != AF_NETLINK) {
        return Named::elsewhere;
    }
    getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &bytes);
    if (protocol == family_) {
        return Named::ours;
    }
    const auto slot = std::ranges::find(slots_, fd, &Slot::fd);
    if (slot == slots_.end()) {
        return Named::either;
    }
    Endpoint& endpoint = *slot->endpoint;
    const Named named = endpoint.state.ring_bytes != 0 ? Named::attached
                        : endpoint.attach_asked        ? Named::either
                                                       : Named::plain;
    if (request.type == NLMMAP_MSG_ATTACH) {
        endpoint.attach_asked = true;
        attaching_[request.seq] = slot->endpoint;
    }
    return named;
}

void Executor::send(const Slot& slot, const Step& step) {
    Descriptors descriptors;
    std::ranges::transform(slots_, std::back_inserter(descriptors), &Slot::fd);
    Bytes datagram;
    for (const Message& message : step.messages) {
        const Bytes bytes = encode(message, ++seq_, groups_, descriptors);
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
    if (sent < 0 || !to_kernel || slot.endpoint->foreign) {
        return;
    }
    Datagram apart = take_apart(datagram);
    tally_.requests += apart.requests.size();
    for (Request& request : apart.requests) {
        request.ext_ack = slot.endpoint->state.ext_ack;
        if (request.descriptor()) {
            request.named = name(request);
        }
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

// Of another family: what comes is not ours to judge.
void Executor::read_foreign(const Slot& slot) {
    Bytes datagram(kAnswerBytes);
    int error = 0;
    while (error == 0 || error == ENOBUFS) {
        error = recv(slot.fd, datagram.data(), datagram.size(), MSG_DONTWAIT) < 0 ? errno : 0;
    }
    if (error != EAGAIN && (error != EBUSY || !slot.endpoint->attach_asked)) {
        wrong(std::string("recv on a socket of another family: ") + strerrorname_np(error));
    }
}

void Executor::read(const Slot& slot) {
    if (slot.endpoint->foreign) {
        read_foreign(slot);
        return;
    }
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

}  // namespace fuzz
