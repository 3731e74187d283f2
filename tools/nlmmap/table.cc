// SPDX-License-Identifier: MIT
#include "tools/nlmmap/table.h"

#include <algorithm>
#include <cassert>
#include <cstddef>
#include <utility>

namespace nlmmap::tool {

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::add(std::vector<std::string> cells) {
    assert(cells.size() == columns_.size());
    for (std::string& cell : cells) {
        if (cell.empty()) cell.push_back('-');
    }
    rows_.push_back(std::move(cells));
}

void Table::print(Output& output) const {
    std::vector<std::size_t> widths;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
        std::size_t width = columns_[i].title.size();
        for (const auto& row : rows_) width = std::max(width, row[i].size());
        widths.push_back(width);
    }
    const auto print_row = [&](const auto& cell_of) {
        std::string line;
        for (std::size_t i = 0; i < columns_.size(); ++i) {
            const std::string& cell = cell_of(i);
            if (i != 0) line += "  ";
            if (columns_[i].align == Align::right) {
                line += fmt::format("{:>{}}", cell, widths[i]);
            } else {
                line += fmt::format("{:<{}}", cell, widths[i]);
            }
        }
        line.erase(line.find_last_not_of(' ') + 1);
        output.line(line);
    };
    print_row([&](std::size_t i) -> const std::string& { return columns_[i].title; });
    for (const auto& row : rows_) {
        print_row([&](std::size_t i) -> const std::string& { return row[i]; });
    }
}

}  // namespace nlmmap::tool
