// SPDX-License-Identifier: MIT
#include "attached.hpp"

#include <linux/netlink.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <climits>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <nlmmap/error.hpp>
#include <string>
#include <tuple>
#include <vector>

#include "mapping.hpp"
#include "setup.hpp"

namespace nlmmap::detail {

// Never made by a constructor, which might run after what else sets it.
constinit Plain plain = {.recvmsg = ::recvmsg,
                         .recvfrom =
                             [](int fd, void* buffer, std::size_t bytes, int flags,
                                sockaddr* address, socklen_t* address_bytes) {
                                 return ::recvfrom(fd, buffer, bytes, flags, address,
                                                   address_bytes);
                             },
                         .recvmmsg = ::recvmmsg,
                         .setsockopt = ::setsockopt,
                         .close = ::close};

constinit std::array<std::atomic<Leaf*>, kLeaves> leaves{};

namespace {

// All rings of this process, and what changes them. The lock is held by who calls.
class Registry {
  public:
    [[nodiscard]] Entry& make(int fd) {
        const std::size_t leaf = static_cast<std::size_t>(fd) >> kLeafBits;
        if (leaves[leaf].load(std::memory_order_relaxed) == nullptr) {
            auto fresh = std::make_unique<Leaf>();
            used_.push_back(leaf);
            leaves[leaf].store(fresh.release(), std::memory_order_release);
        }
        return *find_entry(fd);
    }

    [[nodiscard]] Attached& find_free() {
        for (Attached& attached : all_)
            if (!attached.is_reserved && !attached.is_registered && !attached.is_mapped &&
                attached.users.load() == 0)
                return attached;
        return all_.emplace_back();
    }

    [[nodiscard]] std::deque<Attached>& all() noexcept { return all_; }

    // Calls with each number from the first to the last that is registered.
    template <typename Visit>
    void each(unsigned first, unsigned last, const Visit& visit) {
        for (const std::size_t leaf : used_) {
            for (std::size_t i = 0; i < std::tuple_size_v<Leaf>; ++i) {
                const std::size_t number = (leaf << kLeafBits) + i;
                if (number < first || number > last) continue;
                Entry& entry = (*leaves[leaf].load())[i];
                if (entry.load() != nullptr) visit(static_cast<int>(number), entry);
            }
        }
    }

    std::mutex lock;

  private:
    std::vector<std::size_t> used_;  // leaves
    std::deque<Attached> all_;       // addresses stay
};

// Rings that are being made, each of which may be registered at any moment.
constinit std::atomic<unsigned> vacancies{0};

// Never destroyed: threads may still receive while the program ends.
Registry& registry() {
    static Registry* const made = [] {
        auto* fresh = new Registry();
        ::pthread_atfork([] { registry().lock.lock(); }, [] { registry().lock.unlock(); },
                         [] {
                             // The mappings stayed with the parent; so did its other threads, and
                             // what they held is never let go of.
                             for (Attached& attached : registry().all()) {
                                 if (attached.is_mapped) attached.options.fetch_or(kAway);
                                 attached.is_reserved = false;
                             }
                             vacancies = 0;
                             registry().lock.unlock();
                         });
        return fresh;
    }();
    return *made;
}

void unmap(Attached& attached) noexcept {
    unmap_ring(attached.pages, attached.data_bytes);
    attached.is_mapped = false;
}

// Makes the mapping the registered ring's. The lock is held.
void take_over(Attached& attached, Mapping& mapping) noexcept {
    attached.pages = mapping.pages();
    attached.is_mapped = true;
    mapping.release();
}

bool option_is_set(int fd, int level, int option) noexcept {
    int value = 0;
    socklen_t bytes = sizeof(value);
    return ::getsockopt(fd, level, option, &value, &bytes) == 0 && value != 0;
}

// Not in every libc's headers.
constexpr int kSoPassPidfd = 76;

// Whether SO_PASSSEC means anything: a kernel without security modules takes it and does nothing.
// Where there is no control buffer for it, it shows.
bool kernel_passes_security() noexcept {
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair.data()) != 0) return false;
    const int on = 1;
    msghdr message{};
    const bool passes = plain.setsockopt(pair[0], SOL_SOCKET, SO_PASSSEC, &on, sizeof(on)) == 0 &&
                        ::send(pair[1], &on, sizeof(on), MSG_DONTWAIT) == sizeof(on) &&
                        plain.recvmsg(pair[0], &message, MSG_DONTWAIT) >= 0 &&
                        (message.msg_flags & MSG_CTRUNC) != 0;
    for (const int end : pair) plain.close(end);
    return passes;
}

constexpr std::uint32_t kAskedFor = kPassCredentials | kPacketInfo | kNoEnobufs | kNeedsControl;

std::uint32_t ask_for_options(int fd) noexcept {
    std::uint32_t options = 0;
    if (option_is_set(fd, SOL_SOCKET, SO_PASSCRED)) options |= kPassCredentials | kNeedsControl;
    if (option_is_set(fd, SOL_SOCKET, SO_PASSSEC) && kernel_passes_security())
        options |= kNeedsControl;
    if (option_is_set(fd, SOL_SOCKET, kSoPassPidfd)) options |= kNeedsControl;
    if (option_is_set(fd, SOL_NETLINK, NETLINK_PKTINFO)) options |= kPacketInfo;
    if (option_is_set(fd, SOL_NETLINK, NETLINK_NO_ENOBUFS)) options |= kNoEnobufs;
    return options;
}

// Older kernels do not tell this one; then a record's nsid says that it was set.
std::uint32_t ask_for_all_nsid(int fd) noexcept {
    int value = 0;
    socklen_t bytes = sizeof(value);
    if (::getsockopt(fd, SOL_NETLINK, NETLINK_LISTEN_ALL_NSID, &value, &bytes) != 0) return 0;
    return value != 0 ? 0U : std::uint32_t{kNoNsid};
}

// The lock is held. The last user unmaps.
void unregister(Entry& entry) noexcept {
    Attached* const attached = entry.exchange(nullptr);
    if (attached == nullptr || attached->users.fetch_sub(1) != 1) return;
    attached->is_registered = false;
    if ((attached->options.load() & kAway) != 0) attached->is_mapped = false;
    if (attached->is_mapped) unmap(*attached);
}

// Numbers that were closed without a word: their rings would be filled for nobody, and they may be
// other files' now. The lock is held.
void reap(Registry& registry) noexcept {
    registry.each(0, UINT_MAX, [](int fd, Entry& entry) {
        if (is_stale(fd, *entry.load())) unregister(entry);
    });
}

// A ring's place in the registry from before the module is asked until it is there. That may take
// the module seconds, in which the lock is free: others attach, close and fork meanwhile. All that
// takes memory here is had first: what the module makes cannot be taken back.
class Vacancy {
  public:
    Vacancy(int fd, const std::string& operation) : fd_(fd), operation_(operation) {
        if (::fstat(fd, &file_) != 0) throw Error(errno, operation);
        Registry& all = registry();
        const std::lock_guard lock(all.lock);
        reap(all);
        entry_ = &all.make(fd);
        if (entry_->load() != nullptr) throw is_read_already();
        attached_ = &all.find_free();
        attached_->is_reserved = true;
        ++vacancies;
    }
    Vacancy(const Vacancy&) = delete;
    Vacancy& operator=(const Vacancy&) = delete;
    ~Vacancy() {
        const std::lock_guard lock(registry().lock);
        attached_->is_reserved = false;
        --vacancies;
    }

    // Registers the descriptor; false if another thread did, which adopted the ring as soon as it
    // was there. A child that was forked since the place was taken knows nothing of the ring, as
    // one that is started by exec().
    [[nodiscard]] bool fill(Mapping& mapping, const SocketInfo& info);

    [[nodiscard]] Error is_read_already() const {
        return Error(EBUSY, operation_, {}, "this process reads it from a ring already");
    }

  private:
    // Is the number still the file's that it was at first?
    [[nodiscard]] bool is_same_file() const noexcept {
        struct stat file{};
        return ::fstat(fd_, &file) == 0 && file.st_dev == file_.st_dev &&
               file.st_ino == file_.st_ino;
    }
    int fd_;
    const std::string& operation_;
    struct stat file_{};
    Entry* entry_ = nullptr;
    Attached* attached_ = nullptr;
};

bool Vacancy::fill(Mapping& mapping, const SocketInfo& info) {
    const Pages pages = mapping.pages();
    check_producer(*pages.producer, info.rx_bytes, operation_);
    const std::uint32_t options = ask_for_options(fd_) | ask_for_all_nsid(fd_);

    const std::lock_guard lock(registry().lock);
    // Whoever closes it from here on finds it registered, or finds this Vacancy and waits for the
    // lock: see forget_stale().
    if (!is_same_file()) throw Error(EBADF, operation_, {}, "it was closed meanwhile");
    if (const Attached* const other = entry_->load()) {
        if (other->device == file_.st_dev && other->inode == file_.st_ino) return false;
        // Of a file that had the number in between.
        unregister(*entry_);
    }
    Attached& attached = *attached_;
    attached.data_bytes = info.rx_bytes;
    take_over(attached, mapping);
    attached.header_bytes = pages.producer->header_bytes;
    attached.has_credentials = (pages.producer->features & NLMMAP_FEATURE_CREDENTIALS) != 0;
    attached.device = file_.st_dev;
    attached.inode = file_.st_ino;
    attached.options = options;
    attached.pending_error = 0;
    attached.told = 0;
    attached.cursor = load_acquire(pages.consumer->position);
    // Each record is waited for, whatever who read before wished.
    std::atomic_ref<__u32>(pages.consumer->watermark).store(0, std::memory_order_relaxed);
    attached.seq = seq_before(pages, attached.data_bytes, attached.cursor, info.seq);
    attached.is_registered = true;
    attached.users.fetch_add(1);
    entry_->store(&attached);
    return true;
}

}  // namespace

void Held::let_go(Attached* attached) noexcept {
    const std::lock_guard lock(registry().lock);
    // It may have been used again meanwhile, or never have been this thread's to unmap.
    if (attached->users.load() != 0) return;
    attached->is_registered = false;
    if ((attached->options.load() & kAway) != 0) attached->is_mapped = false;
    if (attached->is_mapped) unmap(*attached);
}

Attached* Held::revive(int fd, Attached* attached) noexcept {
    {
        const std::lock_guard lock(registry().lock);
        if ((attached->options.load() & kAway) == 0) return attached;
        // Its old place may be somebody else's.
        Mapping mapping;
        if (!is_stale(fd, *attached) && mapping.map(fd, attached->data_bytes) == 0) {
            take_over(*attached, mapping);
            attached->options.fetch_and(~std::uint32_t{kAway});
            return attached;
        }
        if (Entry* const entry = find_entry(fd); entry->load() == attached) unregister(*entry);
    }
    if (attached->users.fetch_sub(1) == 1) let_go(attached);
    return nullptr;
}

void attach(int fd, const RingOptions& options) {
    const std::string operation = "attach a ring";
    Vacancy vacancy(fd, operation);
    Mapping mapping;
    const SocketInfo info = attach_ring(fd, options, NLMMAP_FEATURE_WAIT, mapping, operation);
    // Whoever registered it: it is read from the ring.
    static_cast<void>(vacancy.fill(mapping, info));
}

void adopt(int fd) {
    const std::string operation = "adopt a ring";
    Vacancy vacancy(fd, operation);
    Mapping mapping;
    const SocketInfo info = adopt_ring(fd, NLMMAP_FEATURE_WAIT, mapping, operation);
    if (!vacancy.fill(mapping, info)) throw vacancy.is_read_already();
}

void alias(int from, int to) noexcept {
    if (from == to) return;
    Registry& all = registry();
    const std::lock_guard lock(all.lock);
    if (Entry* const old = find_entry(to)) unregister(*old);
    Entry* const entry = find_entry(from);
    Attached* const attached = entry != nullptr ? entry->load() : nullptr;
    if (attached == nullptr) return;
    try {
        Entry& other = all.make(to);
        attached->users.fetch_add(1);
        other.store(attached);
    } catch (const std::bad_alloc&) {
        // That number will answer EBUSY, as any that we do not know.
    }
}

void forget(int fd) noexcept {
    Entry* const entry = find_entry(fd);
    if (entry == nullptr || entry->load() == nullptr) return;
    Registry& all = registry();
    const std::lock_guard lock(all.lock);
    unregister(*entry);
}

bool is_perhaps_registered(int fd) noexcept {
    // In this order: where no ring is being made any more, the one that was is registered.
    return vacancies.load() != 0 || is_attached(fd);
}

void forget_stale(int fd) noexcept {
    // One that begins to be made from here on finds a number that was closed before to be closed.
    if (!is_perhaps_registered(fd)) return;
    Registry& all = registry();
    const std::lock_guard lock(all.lock);
    Entry* const entry = find_entry(fd);
    const Attached* const attached = entry != nullptr ? entry->load() : nullptr;
    if (attached != nullptr && is_stale(fd, *attached)) unregister(*entry);
}

void forget_range(unsigned first, unsigned last) noexcept {
    Registry& all = registry();
    const std::lock_guard lock(all.lock);
    all.each(first, last, [](int /*fd*/, Entry& entry) { unregister(entry); });
}

bool is_stale(int fd, const Attached& attached) noexcept {
    struct stat status{};
    return ::fstat(fd, &status) != 0 || status.st_dev != attached.device ||
           status.st_ino != attached.inode;
}

bool is_attached(int fd) noexcept {
    const Entry* const entry = find_entry(fd);
    return entry != nullptr && entry->load(std::memory_order_acquire) != nullptr;
}

void options_changed(int fd, int level, int option, const void* value, socklen_t bytes) noexcept {
    const Held held(fd);
    if (!held) return;
    std::uint32_t clear = kAskedFor;
    std::uint32_t set = ask_for_options(fd);
    if (level == SOL_NETLINK && option == NETLINK_LISTEN_ALL_NSID) {
        int wanted = 0;
        if (bytes >= sizeof(wanted)) std::memcpy(&wanted, value, sizeof(wanted));
        clear |= kNoNsid;
        if (wanted == 0) set |= kNoNsid;
    }
    std::uint32_t old = held->options.load();
    while (!held->options.compare_exchange_weak(old, (old & ~clear) | set)) {
    }
}

}  // namespace nlmmap::detail
