// SPDX-License-Identifier: MIT
//
// nlmmap_nl_attach(): libnl's receiving functions, caches and cache manager over a ring, beside the
// same on a plain socket.
#include <gtest/gtest.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netlink/cache.h>
#include <netlink/errno.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/route/addr.h>
#include <netlink/socket.h>
#include <nlmmap/nlmmap.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "tests/drop_in/listener.h"
#include "tests/guest/rtnl.h"
#include "tests/guest/surroundings.h"

namespace drop_in {
namespace {

using guest::address_number;
using guest::Addresses;
using guest::in_new_network;

// A libnl socket that hears of lo's addresses and notes what its callback is given.
class LibnlListener {
  public:
    explicit LibnlListener(int rcvbuf_bytes = 0) : socket_(nl_socket_alloc()) {
        EXPECT_EQ(nl_connect(socket_, NETLINK_ROUTE), 0);
        EXPECT_EQ(nl_socket_add_memberships(socket_, RTNLGRP_IPV4_IFADDR, RTNLGRP_NONE), 0);
        nl_socket_disable_seq_check(socket_);
        nl_socket_modify_cb(socket_, NL_CB_VALID, NL_CB_CUSTOM, on_message, this);
        if (rcvbuf_bytes == 0) return;
        EXPECT_EQ(setsockopt(fd(), SOL_SOCKET, SO_RCVBUF, &rcvbuf_bytes, sizeof(rcvbuf_bytes)), 0);
    }
    LibnlListener(const LibnlListener&) = delete;
    LibnlListener& operator=(const LibnlListener&) = delete;
    ~LibnlListener() { nl_socket_free(socket_); }

    void attach(std::size_t ring_bytes = 1 << 20) {
        ASSERT_EQ(nlmmap_nl_attach(socket_, ring_bytes), 0) << nlmmap_error();
    }
    [[nodiscard]] nl_sock* get() const { return socket_; }
    [[nodiscard]] int fd() const { return nl_socket_get_fd(socket_); }
    // Receives until it fails; with what.
    int receive_all() {
        for (;;) {
            const int result = nl_recvmsgs_default(socket_);
            if (result < 0) return result;
            EXPECT_EQ(result, 0);
        }
    }

    std::vector<std::uint32_t> numbers;
    std::vector<std::uint32_t> ports;
    std::vector<pid_t> pids;

  private:
    static int on_message(nl_msg* message, void* argument) {
        auto& self = *static_cast<LibnlListener*>(argument);
        self.numbers.push_back(address_number(nlmsg_hdr(message)));
        self.ports.push_back(nlmsg_get_src(message)->nl_pid);
        EXPECT_EQ(nlmsg_get_src(message)->nl_family, AF_NETLINK);
        EXPECT_EQ(nlmsg_get_src(message)->nl_groups, 1U << (RTNLGRP_IPV4_IFADDR - 1));
        const ucred* const credentials = nlmsg_get_creds(message);
        self.pids.push_back(credentials != nullptr ? credentials->pid : -1);
        return NL_OK;
    }

    nl_sock* socket_;
};

std::vector<std::uint32_t> numbers_to(std::uint32_t first, std::uint32_t count) {
    std::vector<std::uint32_t> numbers(count);
    for (std::uint32_t i = 0; i < count; ++i) numbers[i] = first + i;
    return numbers;
}

TEST(Libnl, ReadsEveryMessageOfABurstFromTheRing) {
    in_new_network([] {
        LibnlListener plain;
        LibnlListener listener;
        listener.attach(4 << 20);
        nl_socket_set_nonblocking(listener.get());
        nl_socket_set_nonblocking(plain.get());
        Addresses addresses;
        addresses.add(0, fewer(5000));
        EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
        EXPECT_EQ(listener.numbers, numbers_to(0, fewer(5000)));
        // So that this shows something.
        EXPECT_EQ(plain.receive_all(), -NLE_NOMEM);
        plain.receive_all();
        EXPECT_LT(plain.numbers.size(), fewer(5000));
    });
}

TEST(Libnl, BlocksWhileTheRingIsEmpty) {
    in_new_network([] {
        LibnlListener listener;
        listener.attach();
        std::thread reader([&] {
            while (listener.numbers.size() < 20) EXPECT_EQ(nl_recvmsgs_default(listener.get()), 0);
        });
        Addresses addresses;
        for (std::uint32_t i = 0; i < 20; ++i) {
            addresses.add(i, 1);
            usleep(1000);
        }
        reader.join();
        EXPECT_EQ(listener.numbers, numbers_to(0, 20));
    });
}

TEST(Libnl, ALossIsNoMemoryOnceAtItsPlace) {
    in_new_network([] {
        constexpr std::uint32_t kTooMany = 200;
        LibnlListener listener(1 << 13);
        listener.attach(1 << 13);
        nl_socket_set_nonblocking(listener.get());
        Addresses addresses;
        addresses.add(0, kTooMany);
        // The loss is told once there is room for it.
        EXPECT_TRUE(guest::eventually([&] { return listener.receive_all() == -NLE_NOMEM; }));
        const std::uint32_t received = static_cast<std::uint32_t>(listener.numbers.size());
        EXPECT_GT(received, 10U);
        EXPECT_LT(received, kTooMany);
        EXPECT_EQ(listener.numbers, numbers_to(0, received));
        EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
        EXPECT_EQ(listener.numbers.size(), received);
        listener.numbers.clear();
        addresses.add(kTooMany, 20);
        EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
        EXPECT_EQ(listener.numbers, numbers_to(kTooMany, 20));
    });
}

TEST(Libnl, SendersAndTheirCredentialsAreAsOnAPlainSocket) {
    in_new_network([] {
        for (const int passes : {0, 1}) {
            LibnlListener plain;
            LibnlListener listener;
            for (LibnlListener* one : {&plain, &listener}) {
                nl_socket_set_passcred(one->get(), passes);
                nl_socket_set_nonblocking(one->get());
            }
            listener.attach();
            Addresses addresses;
            addresses.add(0, 5);
            EXPECT_EQ(plain.receive_all(), -NLE_AGAIN);
            EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
            EXPECT_EQ(listener.numbers, numbers_to(0, 5));
            EXPECT_EQ(listener.ports, plain.ports);
            EXPECT_EQ(listener.pids, plain.pids);
            EXPECT_EQ(listener.pids.front(), passes != 0 ? 0 : -1);
            addresses.remove(0, 5);
        }
    });
}

TEST(Libnl, CallbacksOfTheProgramsOwnAreToldThatTheyMissTheRing) {
    in_new_network([] {
        LibnlListener listener;
        listener.attach();
        nl_cb* const own = nl_cb_alloc(NL_CB_DEFAULT);
        EXPECT_EQ(nl_recvmsgs(listener.get(), own), -NLE_BUSY);
        nl_cb_put(own);
        // What is made of the socket's own reads the ring.
        nl_socket_set_nonblocking(listener.get());
        nl_cb* const of_socket = nl_socket_get_cb(listener.get());
        nl_cb* const cloned = nl_cb_clone(of_socket);
        EXPECT_EQ(nl_recvmsgs(listener.get(), cloned), -NLE_AGAIN);
        nl_cb_put(cloned);
        nl_cb_put(of_socket);
    });
}

TEST(Libnl, ASocketThatSharesTheCallbacksWithoutARingIsReadAsEver) {
    in_new_network([] {
        LibnlListener listener;
        listener.attach();
        nl_cb* const callbacks = nl_socket_get_cb(listener.get());
        nl_sock* const other = nl_socket_alloc_cb(callbacks);
        nl_cb_put(callbacks);
        ASSERT_EQ(nl_connect(other, NETLINK_ROUTE), 0);
        ASSERT_EQ(nl_socket_add_memberships(other, RTNLGRP_IPV4_IFADDR, RTNLGRP_NONE), 0);
        nl_socket_disable_seq_check(other);
        Addresses addresses;
        addresses.add(0, 1);
        EXPECT_EQ(nl_recvmsgs_default(other), 0);
        EXPECT_EQ(listener.numbers, numbers_to(0, 1));
        EXPECT_EQ(nl_recvmsgs_default(listener.get()), 0);
        EXPECT_EQ(listener.numbers.size(), 2U);
        nl_socket_free(other);
    });
}

TEST(Libnl, RequestsAndDumpsWorkOnAnAttachedSocket) {
    in_new_network([] {
        Addresses addresses;
        addresses.add(0, fewer(2000));
        nl_sock* const socket = nl_socket_alloc();
        ASSERT_EQ(nl_connect(socket, NETLINK_ROUTE), 0);
        ASSERT_EQ(nlmmap_nl_attach(socket, 1 << 20), 0) << nlmmap_error();
        for (int round = 0; round < 3; ++round) {
            nl_cache* cache = nullptr;
            ASSERT_EQ(rtnl_addr_alloc_cache(socket, &cache), 0);
            EXPECT_EQ(nl_cache_nitems(cache), static_cast<int>(fewer(2000)));
            nl_cache_free(cache);
        }
        nl_socket_free(socket);
    });
}

TEST(Libnl, ACacheManagerFollowsABurst) {
    in_new_network([] {
        nl_sock* const socket = nl_socket_alloc();
        nl_cache_mngr* manager = nullptr;
        ASSERT_EQ(nl_cache_mngr_alloc(socket, NETLINK_ROUTE, 0, &manager), 0);
        ASSERT_EQ(nlmmap_nl_attach(socket, 4 << 20), 0) << nlmmap_error();
        nl_cache* cache = nullptr;
        ASSERT_EQ(rtnl_addr_alloc_cache(nullptr, &cache), 0);
        ASSERT_EQ(nl_cache_mngr_add_cache(manager, cache, nullptr, nullptr), 0);
        const int before = nl_cache_nitems(cache);
        Addresses addresses;
        addresses.add(0, fewer(3000));
        while (nl_cache_mngr_poll(manager, 0) > 0) {
        }
        EXPECT_EQ(nl_cache_nitems(cache), before + static_cast<int>(fewer(3000)));
        addresses.remove(0, fewer(1000));
        while (nl_cache_mngr_poll(manager, 0) > 0) {
        }
        EXPECT_EQ(nl_cache_nitems(cache), before + static_cast<int>(fewer(2000)));
        nl_cache_mngr_free(manager);
        nl_socket_free(socket);
    });
}

TEST(Libnl, AttachFailsInWordsOfLibnl) {
    nl_sock* const socket = nl_socket_alloc();
    EXPECT_EQ(nlmmap_nl_attach(socket, 1 << 16), -NLE_BAD_SOCK);
    ASSERT_EQ(nl_connect(socket, NETLINK_ROUTE), 0);
    EXPECT_EQ(nlmmap_nl_attach(socket, 5000), -NLE_INVAL);
    EXPECT_STRNE(nlmmap_error(), "");
    EXPECT_EQ(nlmmap_nl_attach(socket, 1 << 16), 0) << nlmmap_error();
    EXPECT_EQ(nlmmap_nl_attach(socket, 1 << 16), -NLE_BUSY);
    nl_socket_free(socket);
}

TEST(Libnl, ASocketThatIsConnectedAnewIsANewOne) {
    in_new_network([] {
        LibnlListener listener;
        listener.attach();
        nlmmap_nl_close(listener.get());
        ASSERT_EQ(nl_connect(listener.get(), NETLINK_ROUTE), 0);
        ASSERT_EQ(nl_socket_add_memberships(listener.get(), RTNLGRP_IPV4_IFADDR, RTNLGRP_NONE), 0);
        nl_socket_set_nonblocking(listener.get());
        EXPECT_EQ(nlmmap_is_attached(listener.fd()), 0);
        Addresses addresses;
        addresses.add(0, 10);
        EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
        listener.attach();
        addresses.add(10, 10);
        EXPECT_EQ(listener.receive_all(), -NLE_AGAIN);
        EXPECT_EQ(listener.numbers, numbers_to(0, 20));
    });
}

}  // namespace
}  // namespace drop_in
