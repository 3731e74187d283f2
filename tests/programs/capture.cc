// SPDX-License-Identifier: MIT
// capture FILE: writes the links and addresses of this network namespace, as rtnetlink tells them,
// to a capture file, a packet for each message. Says how many.
#include "tools/nlmmap/capture.h"

#include <linux/rtnetlink.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <cstddef>
#include <exception>
#include <iostream>
#include <memory>
#include <span>
#include <stdexcept>

#include "tools/nlmmap/clock.h"

namespace {

struct Capture {
    nlmmap::tool::CaptureFile file;
    int packets = 0;
};

int on_message(nl_msg* message, void* argument) {
    auto& capture = *static_cast<Capture*>(argument);
    const nlmsghdr* const header = nlmsg_hdr(message);
    capture.file.add(
        NETLINK_ROUTE, nlmmap::tool::wall_time_now(),
        std::as_bytes(std::span(reinterpret_cast<const char*>(header), header->nlmsg_len)));
    ++capture.packets;
    return NL_OK;
}

void dump(nl_sock* socket, int type) {
    rtgenmsg fixed{};
    if (nl_send_simple(socket, type, NLM_F_DUMP, &fixed, sizeof(fixed)) < 0 ||
        nl_recvmsgs_default(socket) < 0)
        throw std::runtime_error("rtnetlink does not answer");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: capture FILE\n";
        return 2;
    }
    try {
        Capture capture{nlmmap::tool::CaptureFile(argv[1])};
        const std::unique_ptr<nl_sock, decltype(&nl_socket_free)> socket(nl_socket_alloc(),
                                                                         &nl_socket_free);
        if (!socket || nl_connect(socket.get(), NETLINK_ROUTE) < 0)
            throw std::runtime_error("no rtnetlink socket");
        nl_socket_modify_cb(socket.get(), NL_CB_VALID, NL_CB_CUSTOM, &on_message, &capture);
        dump(socket.get(), RTM_GETLINK);
        dump(socket.get(), RTM_GETADDR);
        capture.file.flush();
        std::cout << capture.packets << '\n';
        return 0;
    } catch (const std::exception& error) {
        std::cerr << "capture: " << error.what() << '\n';
        return 1;
    }
}
