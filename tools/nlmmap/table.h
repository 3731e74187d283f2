// SPDX-License-Identifier: MIT
// A table for people: columns as wide as their widest cell, two spaces between them.
#pragma once

#include <string>
#include <vector>

#include "tools/nlmmap/output.h"

namespace nlmmap::tool {

enum class Align { left, right };

struct Column {
    std::string title;
    Align align = Align::left;
};

class Table {
  public:
    explicit Table(std::vector<Column> columns);

    // As many cells as there are columns. An empty cell is shown as a dash.
    void add(std::vector<std::string> cells);

    bool empty() const noexcept { return rows_.empty(); }

    // Throws as Output::line() does.
    void print(Output& output) const;

  private:
    std::vector<Column> columns_;
    std::vector<std::vector<std::string>> rows_;
};

}  // namespace nlmmap::tool
