// SPDX-License-Identifier: MIT
#include "tools/nlmmap/sockets.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netlink/utils.h>

#include <algorithm>
#include <array>
#include <utility>

#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

std::string family_name(int protocol, int ours) {
    if (protocol == ours) return "nlmmap";
    std::array<char, 32> buffer{};
    const std::string name = ::nl_nlfamily2str(protocol, buffer.data(), buffer.size());
    // For one that it does not know libnl has a hexadecimal number.
    return name.starts_with("0x") ? fmt::format("{}", protocol) : name;
}

}  // namespace

std::vector<NamedSocket> named_sockets(Socket& socket, const std::vector<GroupInfo>& groups) {
    std::vector<SocketInfo> infos = socket.sockets();
    // The oldest socket first, so that a table keeps its order from look to look.
    std::sort(infos.begin(), infos.end(),
              [](const SocketInfo& a, const SocketInfo& b) { return a.inode < b.inode; });
    auto processes = processes_by_socket();
    const int ours = family();
    std::vector<NamedSocket> result;
    for (SocketInfo& info : infos) {
        NamedSocket named;
        named.processes = std::move(processes[info.inode]);
        named.family = family_name(info.protocol, ours);
        for (const std::uint16_t id : info.groups) {
            const auto group = std::find_if(groups.begin(), groups.end(),
                                            [&](const GroupInfo& g) { return g.id == id; });
            named.groups.push_back(group != groups.end() ? printable(group->name)
                                                         : fmt::format("#{}", id));
        }
        named.info = std::move(info);
        result.push_back(std::move(named));
    }
    return result;
}

std::string group_names(const NamedSocket& socket) {
    return fmt::format("{}", fmt::join(socket.groups, ", "));
}

nlohmann::ordered_json to_json(const NamedSocket& socket) {
    auto processes = nlohmann::ordered_json::array();
    for (const Process& process : socket.processes) {
        processes.push_back({{"pid", process.pid}, {"name", printable(process.name)}});
    }
    const SocketInfo& info = socket.info;
    return {{"portid", info.portid},
            {"inode", info.inode},
            {"uid", info.uid},
            {"processes", std::move(processes)},
            {"family", socket.family},
            {"protocol", info.protocol},
            {"groups", socket.groups},
            {"ring_bytes", info.rx_bytes},
            {"header_bytes", info.header_bytes},
            {"abi_version", info.abi_version},
            {"features", info.features},
            {"produced", info.produced},
            {"consumed", info.consumed},
            {"seq", info.seq},
            {"lost", info.lost},
            {"high_water", info.high_water},
            {"wakeups", info.wakeups},
            {"forged", info.forged}};
}

}  // namespace nlmmap::tool
