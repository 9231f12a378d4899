// An exported folder: its files are read only where they are those that were exported.
#pragma once

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <map>
#include <set>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include "sha256.hpp"

namespace forecast {

// Something that is not what it should be, in one line.
[[noreturn]] inline void refuse(const std::string& expected, const std::string& got,
                                const std::string& remedy) {
  throw std::invalid_argument("expected " + expected + "; got " + got + "; " + remedy);
}

inline bool is_whole(const std::string& word) {  // and no more than 64 bits hold
  return !word.empty() && word.size() < 19 &&
         word.find_first_not_of("0123456789") == std::string::npos;
}

class Folder {
 public:
  explicit Folder(std::string path) : path_(std::move(path)) {
    std::istringstream lines(bytes_of("checksums.txt"));
    for (std::string line; std::getline(lines, line);) {
      if (line.size() < 67 || line.find_first_not_of("0123456789abcdef") != 64 ||
          line.compare(64, 2, "  "))
        refuse("lines of SHA-256 and name in " + path_ + "/checksums.txt", "'" + line + "'",
               "export again");
      checksums_[line.substr(66)] = line.substr(0, 64);
    }
    read("metadata.json");  // which this host needs not, but which tells what the graphs are
  }

  bool has(const std::string& name) const { return checksums_.count(name) > 0; }

  // The bytes of a file.
  std::string read(const std::string& name) const {
    if (!has(name)) refuse(name + " among the files that were exported", "none", "export again");
    std::string bytes = bytes_of(name);
    if (sha256(bytes) != checksums_.at(name))
      refuse("the file that was exported as " + name, "another one: " + path_ + "/" + name,
             "export again");
    return bytes;
  }

  // Refuses numbers of slots for which there are no graphs.
  void expect_slots(int64_t slots) const {
    std::set<int64_t> known;
    for (const auto& [name, checksum] : checksums_) {
      const size_t first = std::string("observe_").size(), end = name.find(".onnx");
      if (name.compare(0, first, "observe_") || end == std::string::npos) continue;
      const std::string count = name.substr(first, end - first);
      if (is_whole(count)) known.insert(std::stoll(count));
    }
    if (known.empty()) refuse("graphs for ONNX Runtime", "none", "export with --format onnx");
    std::string all;
    for (int64_t one : known) all += (all.empty() ? "" : ", ") + std::to_string(one);
    if (!known.count(slots))
      refuse("slots of " + all, std::to_string(slots), "choose one of these");
  }

 private:
  std::string bytes_of(const std::string& name) const {
    std::ifstream file(path_ + "/" + name, std::ios::binary);
    std::string bytes{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
    if (!file)
      refuse("a folder that `forecast export` wrote, with " + name, "none in " + path_,
             "check the folder, or export again");
    return bytes;
  }

  std::string path_;
  std::map<std::string, std::string> checksums_;  // by name
};

}  // namespace forecast
