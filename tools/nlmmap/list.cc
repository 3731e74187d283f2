// SPDX-License-Identifier: MIT
// nlmmap list: the groups of the network namespace, and the sockets with rings.
#include <fmt/format.h>

#include <algorithm>
#include <nlmmap/nlmmap.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <system_error>

#include "tools/nlmmap/commands.h"
#include "tools/nlmmap/sockets.h"
#include "tools/nlmmap/table.h"
#include "tools/nlmmap/text.h"

namespace nlmmap::tool {
namespace {

constexpr const char* kWhyNoSockets =
    "Sockets with rings are shown to an administrator of the network namespace (CAP_NET_ADMIN): "
    "try sudo.";

nlohmann::ordered_json group_json(const GroupInfo& group) {
    return {{"id", group.id},
            {"name", group.name},
            {"public", group.is_public},
            {"max_bytes", group.max_bytes},
            {"members", group.members},
            {"plain", group.plain},
            {"published", group.published}};
}

void print_groups(const std::vector<GroupInfo>& groups, Output& output) {
    if (groups.empty()) {
        output.line("No groups in this network namespace: no loaded module publishes here.");
        return;
    }
    Table table({{"GROUP"},
                 {"ID", Align::right},
                 {"WHO MAY JOIN"},
                 {"MAX BYTES", Align::right},
                 {"RINGS", Align::right},
                 {"PLAIN SOCKETS"},
                 {"PUBLISHED", Align::right}});
    for (const GroupInfo& group : groups) {
        table.add({printable(group.name), fmt::format("{}", group.id),
                   group.is_public ? "anybody" : "administrator",
                   fmt::format("{}", group.max_bytes), fmt::format("{}", group.members),
                   group.plain ? "yes" : "no", fmt::format("{}", group.published)});
    }
    table.print(output);
}

void print_sockets(const std::vector<NamedSocket>& sockets, Output& output) {
    if (sockets.empty()) {
        output.line("No sockets with rings.");
        return;
    }
    Table table({{"PROCESS"},
                 {"FAMILY"},
                 {"PORT", Align::right},
                 {"UID", Align::right},
                 {"RING", Align::right},
                 {"LOST", Align::right},
                 {"GROUPS"}});
    for (const NamedSocket& socket : sockets) {
        table.add({process_names(socket.processes), socket.family,
                   fmt::format("{}", socket.info.portid), fmt::format("{}", socket.info.uid),
                   size_text(socket.info.rx_bytes), fmt::format("{}", socket.info.lost),
                   group_names(socket)});
    }
    table.print(output);
}

}  // namespace

int list(const ListOptions& options, Output& output) {
    Socket socket;
    const std::vector<GroupInfo> groups = socket.groups();
    std::optional<std::vector<NamedSocket>> sockets;
    try {
        sockets = named_sockets(socket, groups);
    } catch (const Error& error) {
        if (error.code() != std::errc::operation_not_permitted) throw;
    }

    if (options.json) {
        nlohmann::ordered_json answer;
        answer["groups"] = nlohmann::ordered_json::array();
        for (const GroupInfo& group : groups) answer["groups"].push_back(group_json(group));
        answer["sockets"] = nullptr;  // not the same as none
        if (sockets) {
            answer["sockets"] = nlohmann::ordered_json::array();
            for (const NamedSocket& named : *sockets) answer["sockets"].push_back(to_json(named));
        }
        output.line(answer.dump());
        return kSuccess;
    }
    print_groups(groups, output);
    output.line("");
    if (sockets) {
        print_sockets(*sockets, output);
    } else {
        output.line(kWhyNoSockets);
    }
    return kSuccess;
}

}  // namespace nlmmap::tool
