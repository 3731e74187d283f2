// SPDX-License-Identifier: MIT
// produce GROUP public|private [MAX_BYTES]: registers the group with nlmmap_test.ko and publishes
// what standard input says, a command for each line, until that ends; then the group goes.
//
//     count N     N messages, each with attributes that tell its number
//     hex BYTES   one message of type 300 with that payload
//
// Says `ready` when the group is there, and `done` after each command.
#include <fcntl.h>
#include <linux/netlink.h>
#include <nlmmap/linux/nlmmap.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <iostream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "tests/guest/module/nlmmap_test.h"

namespace {

int fail(std::string_view what) {
    std::cerr << "produce: " << what << ": " << std::strerror(errno) << '\n';
    return 1;
}

bool publish_count(int device, std::uint32_t group, std::uint64_t count) {
    static std::uint64_t next_number = 0;
    nlmmap_test_publish request{};
    request.group = group;
    request.context = NLMMAP_TEST_PROCESS;
    request.flags = NLMMAP_TEST_IN_PLACE | NLMMAP_TEST_ATTRIBUTES;
    request.producers = 1;
    request.min_bytes = 64;
    request.max_bytes = 64;
    request.first_number = next_number;
    request.count = count;
    next_number += count;
    return ::ioctl(device, NLMMAP_TEST_PUBLISH, &request) == 0 &&
           request.accepted + request.skipped == count;
}

bool publish_bytes(int device, std::uint32_t group, const std::string& hex) {
    std::vector<unsigned char> payload;
    for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
        payload.push_back(static_cast<unsigned char>(std::stoi(hex.substr(i, 2), nullptr, 16)));
    }
    nlmsghdr header{};
    header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_HDRLEN + payload.size());
    header.nlmsg_type = 300;
    std::vector<unsigned char> datagram(header.nlmsg_len);
    std::memcpy(datagram.data(), &header, sizeof(header));
    std::copy(payload.begin(), payload.end(), datagram.begin() + NLMSG_HDRLEN);
    nlmmap_test_datagram request{};
    request.group = group;
    request.len = header.nlmsg_len;
    request.bytes = reinterpret_cast<std::uintptr_t>(datagram.data());
    return ::ioctl(device, NLMMAP_TEST_DATAGRAM, &request) >= 0;
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::cerr << "usage: produce GROUP public|private [MAX_BYTES]\n";
        return 2;
    }
    const int device = ::open(NLMMAP_TEST_DEVICE, O_RDWR | O_CLOEXEC);
    if (device < 0) return fail("open " NLMMAP_TEST_DEVICE);
    nlmmap_test_group group{};
    std::strncpy(group.name, argv[1], sizeof(group.name) - 1);
    group.flags = std::string_view(argv[2]) == "public" ? NLMMAP_GROUP_PUBLIC : 0;
    group.max_bytes = argc > 3 ? static_cast<std::uint32_t>(std::stoul(argv[3])) : 256;
    if (::ioctl(device, NLMMAP_TEST_REGISTER, &group) != 0) return fail("register");
    std::cout << "ready" << std::endl;

    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream words(line);
        std::string command;
        std::string argument;
        words >> command >> argument;
        errno = 0;
        const bool done = command == "count"
                              ? publish_count(device, group.id, std::stoull(argument))
                          : command == "hex" ? publish_bytes(device, group.id, argument)
                                             : false;
        if (!done) return fail(line);
        std::cout << "done" << std::endl;
    }
    return 0;
}
