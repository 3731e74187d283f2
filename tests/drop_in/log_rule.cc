// SPDX-License-Identifier: MIT
//
// log_rule add GROUP: from now on nfnetlink_log tells its group of each IPv4 packet that is sent,
// as `nft add rule ip nlmmap out log group GROUP` has it. log_rule remove: no longer.
#include <arpa/inet.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "tests/drop_in/nested.h"
#include "tests/guest/raw_netlink.h"
#include "tests/guest/rtnl.h"

namespace {

using drop_in::Nested;
using guest::Request;

constexpr const char* kTable = "nlmmap";
constexpr const char* kChain = "out";

Request of_tables(int type, int flags, const Nested& attributes) {
    return drop_in::netfilter_request(NFNL_SUBSYS_NFTABLES << 8 | type, NLM_F_REQUEST | flags,
                                      NFPROTO_IPV4, 0, attributes);
}

// All or nothing; the last one asks for the answer.
void run(std::initializer_list<Request> requests) {
    const auto limit = [](int type) {
        return drop_in::netfilter_request(type, NLM_F_REQUEST, AF_UNSPEC, NFNL_SUBSYS_NFTABLES, {});
    };
    guest::Bytes batch = limit(NFNL_MSG_BATCH_BEGIN).bytes();
    for (const Request& request : requests)
        batch.insert(batch.end(), request.bytes().begin(), request.bytes().end());
    const Request end = limit(NFNL_MSG_BATCH_END);
    batch.insert(batch.end(), end.bytes().begin(), end.bytes().end());
    guest::RawSocket socket = guest::family_socket(NETLINK_NETFILTER);
    const guest::Outcome outcome = socket.ask_bytes(batch);
    if (outcome.error != 0)
        throw std::runtime_error("nf_tables refused: errno " + std::to_string(outcome.error) + " " +
                                 outcome.sentence);
}

void add(std::uint16_t group) {
    const Nested log = Nested()
                           .put(NFTA_LOG_GROUP, htons(group))
                           .put(NFTA_LOG_QTHRESHOLD, htons(std::uint16_t{1}));
    const Nested expression = Nested().text(NFTA_EXPR_NAME, "log").put(NFTA_EXPR_DATA, log);
    run({of_tables(NFT_MSG_NEWTABLE, NLM_F_CREATE, Nested().text(NFTA_TABLE_NAME, kTable)),
         of_tables(NFT_MSG_NEWCHAIN, NLM_F_CREATE,
                   Nested()
                       .text(NFTA_CHAIN_TABLE, kTable)
                       .text(NFTA_CHAIN_NAME, kChain)
                       .put(NFTA_CHAIN_HOOK, Nested()
                                                 .put(NFTA_HOOK_HOOKNUM, htonl(NF_INET_LOCAL_OUT))
                                                 .put(NFTA_HOOK_PRIORITY, htonl(0)))
                       .text(NFTA_CHAIN_TYPE, "filter")),
         of_tables(NFT_MSG_NEWRULE, NLM_F_ACK | NLM_F_CREATE | NLM_F_APPEND,
                   Nested()
                       .text(NFTA_RULE_TABLE, kTable)
                       .text(NFTA_RULE_CHAIN, kChain)
                       .put(NFTA_RULE_EXPRESSIONS, Nested().put(NFTA_LIST_ELEM, expression)))});
}

void remove() {
    run({of_tables(NFT_MSG_DELTABLE, NLM_F_ACK, Nested().text(NFTA_TABLE_NAME, kTable))});
}

}  // namespace

int main(int argc, char** argv) {
    try {
        const std::string what = argc > 1 ? argv[1] : "";
        if (what == "add" && argc == 3) {
            add(static_cast<std::uint16_t>(std::atoi(argv[2])));
        } else if (what == "remove" && argc == 2) {
            remove();
        } else {
            std::fprintf(stderr, "usage: log_rule add GROUP | log_rule remove\n");
            return 2;
        }
        return 0;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "log_rule: %s\n", error.what());
        return 1;
    }
}
