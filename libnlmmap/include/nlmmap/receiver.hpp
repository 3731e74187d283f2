// SPDX-License-Identifier: MIT
// nlmmap::Receiver: a mapped ring, and the groups that fill it.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <nlmmap/error.hpp>
#include <nlmmap/export.hpp>
#include <nlmmap/record.hpp>
#include <nlmmap/socket.hpp>
#include <optional>
#include <string_view>

namespace nlmmap {

namespace testing {
class Loopback;
}  // namespace testing

/// How a ring is set up.
struct RingOptions {
    /// Bytes of records that the ring holds: a power of two, from one page to the module's
    /// max_ring_bytes (64 MiB by default). Counts against RLIMIT_MEMLOCK.
    std::size_t ring_bytes = 1 << 20;
    /// How many bytes must wait before a sleeper is woken; see Receiver::set_watermark().
    std::uint32_t watermark_bytes = 0;
    /// Have the kernel stamp each record: Record::time(). 8 bytes a record.
    bool timestamps = false;
    /// Have the kernel tell each record's sender: Record::credentials(). 16 bytes a record.
    /// Receiver::attach() alone.
    bool credentials = false;
};

/// Why Receiver::wait() returned.
enum class Wait {
    readable,     ///< records wait, or some were lost: read(), and look at lost()
    timed_out,    ///< nothing came
    interrupted,  ///< a signal handler ran
    group_gone,   ///< the ring is empty, and every group that was joined has been deleted
};

/// Receives the messages of groups in a ring mapped from the kernel.
///
///     Receiver receiver = Receiver::join("process_events", {.ring_bytes = 1 << 20});
///     while (receiver.wait() != Wait::group_gone) {
///         for (const Record& record : receiver.read()) {
///             if (record.lost_before()) resync(record.lost_before());
///             for (const Message& message : record) handle(message);
///         }
///     }
///
/// Nothing is lost while the ring has room. What finds no room is lost, the newest first, and told
/// exactly: Record::lost_before() says how many and where. Losses after the newest record show in
/// lost() alone: they are what lost() exceeds the sum of all lost_before() by. A loss ends wait()
/// even if the ring is empty by then.
///
/// Movable; a moved-from receiver may only be assigned to or destroyed. It belongs to one thread at
/// a time; several threads join several times, and each hears everything. The destructor unmaps the
/// ring and closes the socket; no Batch may be alive then. A child after fork() has no mapping: it
/// must not touch the receiver, not even destroy it (exec or _exit).
class NLMMAP_EXPORT Receiver {
  public:
    /// Opens a socket, sets a ring up and joins the group. Allocates, makes some system calls.
    /// Errors: as Socket(), Receiver(Socket) and join_group().
    [[nodiscard]] static Receiver join(std::string_view group, const RingOptions& options = {});

    /// The same for several groups, whose messages come through one ring in the order of
    /// publishing.
    [[nodiscard]] static Receiver join(std::initializer_list<std::string_view> groups,
                                       const RingOptions& options = {});

    /// Sets a ring up on that socket, with no group yet. Allocates, makes some system calls. The
    /// socket is the receiver's from then on, and is closed if this throws, EBUSY included: with it
    /// end the groups that it subscribed to.
    /// Error EINVAL: ring_bytes is not a power of two of at least a page. ERANGE: it is over the
    /// module's max_ring_bytes. ENOMEM: it would take its user over RLIMIT_MEMLOCK (what() says
    /// what is needed), or there is no memory. EBUSY: the socket has a ring, or subscribed to a
    /// group. EOPNOTSUPP: the module does not know an option. EPROTO: the module speaks another
    /// version of the ABI.
    explicit Receiver(Socket socket, const RingOptions& options = {});

    /// Puts a ring under a netlink socket of any other family (rtnetlink, conntrack, audit, generic
    /// netlink...), on its own descriptor: from now on what arrives there is read here, and
    /// recvmsg() on it answers EBUSY. Sending, memberships, socket options and filters stay as they
    /// are; what was queued comes first. Wait on the descriptor itself, for EPOLLIN.
    ///
    /// The descriptor stays yours: keep it open while the receiver lives, and close it afterwards.
    /// The ring ends with the socket; a socket is attached once. Allocates, makes some system
    /// calls. Error EPERM: you lack CAP_NET_ADMIN, or a security module forbids receiving there.
    /// EBADF, ENOTSOCK, EAFNOSUPPORT: no netlink socket. EBUSY: it has a ring. EINVAL: it is a
    /// socket of nlmmap's own family, or as Receiver(Socket). ERANGE, EPROTO: as Receiver(Socket).
    /// ENOMEM: likewise (three pages more are needed for a moment), or the ring's addresses, twice
    /// its size, are over RLIMIT_AS, or, after mlockall(), over RLIMIT_MEMLOCK. EOPNOTSUPP: the
    /// module does not know how. The errors of Socket().
    ///
    /// What can be refused is asked for before the socket is changed: if this throws, the socket is
    /// as it was. What is left is that the kernel has no memory for the mapping's page tables or
    /// the program none for the receiver (ENOMEM, std::bad_alloc), that the process has as many
    /// mappings as it may (ENOMEM), that a security module forbids mapping (EACCES), that another
    /// thread closed the descriptor meanwhile. Then the socket has its ring: adopt() can still take
    /// it.
    [[nodiscard]] static Receiver attach(int netlink_fd, const RingOptions& options = {});

    /// The same for a libnl socket. libnl's own receiving functions on it answer EBUSY from then
    /// on.
    [[nodiscard]] static Receiver attach(nl_sock* socket, const RingOptions& options = {});

    /// Goes on with a ring that is under the socket already: after exec(), when the descriptor came
    /// by SCM_RIGHTS, or when attach() threw after all. Begins where the other reader left off,
    /// which must not read any more. What was lost right before the first record is not told again.
    /// The descriptor stays yours, as for attach(). Some system calls; looks at each record that
    /// waits.
    /// Error ENODEV: there is no ring. EBADF, ENOTSOCK, EAFNOSUPPORT: no netlink socket. ENOMEM:
    /// RLIMIT_AS, after mlockall() RLIMIT_MEMLOCK, or no memory. EIO: another program that has the
    /// descriptor spoilt the ring's page. EPROTO: as Receiver(Socket). The errors of Socket().
    [[nodiscard]] static Receiver adopt(int netlink_fd, std::uint32_t watermark_bytes = 0);

    ~Receiver();
    Receiver(Receiver&&) noexcept;
    Receiver& operator=(Receiver&&) noexcept;

    /// The group's messages come to this ring from now on. Two requests; four if the group is
    /// deleted and made anew meanwhile.
    /// Error ENOENT: no such group; what() lists those that there are. EPERM: the group is not
    /// public and you lack CAP_NET_ADMIN. EALREADY: joined before. EMSGSIZE: the ring is too small
    /// for the group's messages; what() says what it takes. ENOSPC: the group has as many rings as
    /// the module allows, or the ring as many groups as its size allows. EAGAIN: the ring is full:
    /// read, then join. EINVAL: the name is empty or longer than 31 bytes. ENOMEM.
    void join_group(std::string_view group);

    /// The reverse. What is in the ring stays there. Two requests.
    /// Error ENOENT: no such group, or not joined. ENOMEM: still joined.
    void leave_group(std::string_view group);

    /// Waits until the ring is readable: until as many bytes wait as the watermark says, something
    /// was lost, or a group was deleted. Makes no system call if the bytes are there already; else
    /// one poll(), and two more calls each time that the socket's ordinary queue has overflowed.
    /// Without a timeout it waits for ever; 0 does not wait. After a time-out whatever
    /// is in the ring, be it below the watermark, makes it `readable`.
    /// A deleted group is told twice: by a notice among the records (Record::is_notice()), and,
    /// once the ring is empty and no joined group is left, by `group_gone`.
    /// Answers to requests on the same socket neither wake it nor keep it from sleeping.
    /// Errors: those of poll(): ENOMEM; EIO: the descriptor is not pollable any more.
    [[nodiscard]] Wait wait(std::optional<std::chrono::nanoseconds> timeout = std::nullopt);

    /// Asks the kernel to make fd() readable when the next record comes; true if the ring is
    /// readable already. One poll() with a timeout of 0. Who waits edge-triggered on fd() (EPOLLET,
    /// io_uring) calls it before each sleep, after read() found nothing, and reads again if it
    /// returns true. Level-triggered epoll, poll and select do it by themselves. Errors: as wait().
    [[nodiscard]] bool arm();

    /// The records in the ring up to what is published now, in place. No system call, nothing
    /// allocated. One Batch may be alive at a time: with another one alive this is a failed
    /// assertion, or, with NDEBUG, an empty Batch. See Batch for what leaving the loop early means.
    [[nodiscard]] Batch read() noexcept { return Batch(ring_.get()); }

    /// How many bytes, headers included, must wait before a sleeper in wait() or on fd() is woken.
    /// 0 and 1: any record; more than half the ring is half the ring. Counts from the next time
    /// that somebody goes to sleep. Together with it a timeout bounds how late a message is seen.
    void set_watermark(std::uint32_t bytes) noexcept { ring_->set_watermark(bytes); }

    /// The descriptor to wait on in an event loop of your own: ask for EPOLLRDBAND, which is the
    /// ring's; EPOLLIN is the ring's and the ordinary queue's. It stays this receiver's. Of an
    /// attached socket: its descriptor, for EPOLLIN.
    [[nodiscard]] int fd() const noexcept { return ring_->backend().fd(); }

    /// The socket under the ring, for requests. Error EOPNOTSUPP: the receiver is a loopback's, or
    /// attached to a socket of yours.
    [[nodiscard]] Socket& socket() { return ring_->backend().socket(); }

    /// Records lost so far: one load. Exceeds the sum of all Record::lost_before() by the losses
    /// after the newest record that was read.
    [[nodiscard]] std::uint64_t lost() const noexcept { return ring_->lost(); }

    /// Bytes of records that the ring holds.
    [[nodiscard]] std::size_t ring_bytes() const noexcept { return ring_->ring_bytes(); }

    /// Bytes that wait in the ring, headers included; space that a live Batch has not given back
    /// yet counts, too. One load.
    [[nodiscard]] std::size_t pending_bytes() const noexcept { return ring_->pending_bytes(); }

  private:
    friend class testing::Loopback;

    explicit Receiver(std::unique_ptr<detail::Ring> ring) noexcept;

    std::unique_ptr<detail::Ring> ring_;
};

}  // namespace nlmmap
