// What a host is given, and the rules by which it is refused: those of host_arrays.py.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "folder.hpp"

namespace forecast {

constexpr double kFarthest = 1e6;  // metres or radians
constexpr double kLargestM = 200;  // length or width of anything
constexpr double kLatestS = 1e12;
constexpr double kSameStepS = 1e-6;

struct Box {
  int64_t id, label;                // from 1
  std::array<double, 5> pose_size;  // x, y, yaw, length, width
};

struct Moment {
  double time_s = 0;
  std::array<double, 3> ego{}, moved{};
  bool raster = true;  // whether the boxes are drawn and the raster is read
  std::vector<Box> boxes;
  std::set<int64_t> raster_ids;  // of agents that have a cell in the raster
};

struct Map {
  std::array<int64_t, 3> shape{};  // layers, rows, columns
  std::vector<float> cells;        // 0 or 1, in this order
};

using Points = std::vector<std::array<double, 3>>;     // of lane centres: x, y, yaw
using LanePoints = std::vector<std::array<float, 3>>;  // those that the graphs are given

inline std::string text(double number) {
  std::ostringstream out;
  out.precision(9);
  out << number;
  return out.str();
}

template <typename Numbers>
void expect_numbers(const std::string& name, const Numbers& numbers, double most = kFarthest) {
  for (double number : numbers)
    if (!(std::abs(number) <= most))
      refuse(name + " of finite numbers from -" + text(most) + " to " + text(most), text(number),
             "correct " + name);
}

inline void expect_whole(const std::string& name, int64_t number,
                         int64_t most = std::numeric_limits<int64_t>::max()) {
  if (number < 1 || number > most)
    refuse(name + " of whole numbers from 1 to " + std::to_string(most), std::to_string(number),
           "correct " + name);
}

inline void expect_moment(const Moment& moment, double last_s, int64_t classes) {
  expect_numbers("time_s", std::array<double, 1>{moment.time_s}, kLatestS);
  if (moment.time_s < last_s)
    refuse("observations in the order of time",
           "one of " + text(moment.time_s) + " s after one of " + text(last_s) + " s",
           "leave the late one out");
  expect_numbers("ego", moment.ego);
  expect_numbers("moved", moment.moved);
  std::set<int64_t> ids;
  for (const Box& box : moment.boxes) {
    expect_whole("ids", box.id);
    if (!ids.insert(box.id).second)
      refuse("every id once in a moment", std::to_string(box.id) + " twice",
             "give each agent its own");
    expect_whole("labels", box.label, classes);
    expect_numbers("boxes", box.pose_size);
    for (double size : {box.pose_size[3], box.pose_size[4]})
      if (size <= 0 || size > kLargestM)
        refuse("lengths and widths above 0, " + text(kLargestM) + " m at most", text(size),
               "correct boxes, or leave the agent out");
  }
  for (int64_t id : moment.raster_ids) expect_whole("raster_ids", id);
}

inline void expect_map(const Map& map, const std::array<int64_t, 3>& shape) {
  auto told = [](const std::array<int64_t, 3>& sizes) {
    return std::to_string(sizes[0]) + " x " + std::to_string(sizes[1]) + " x " +
           std::to_string(sizes[2]);
  };
  const auto count = static_cast<size_t>(shape[0] * shape[1] * shape[2]);
  if (map.shape != shape || map.cells.size() != count)
    refuse("a map of " + told(shape) + " cells, layers first",
           std::to_string(map.cells.size()) + " cells of " + told(map.shape), "crop or fill it");
  for (float cell : map.cells)
    if (cell != 0 && cell != 1) refuse("a map of 0 and 1", text(cell), "draw what is there as 1");
}

// One point of each direction in every square of a lattice: the first that there is.
inline LanePoints thinned(const Points& points, float spacing_m) {
  std::set<std::array<int64_t, 3>> taken;
  LanePoints kept;
  auto square = [&](float place) {
    return std::clamp(static_cast<int64_t>(std::floor(place / spacing_m)), int64_t{-4096},
                      int64_t{4095});
  };
  for (const auto& given : points) {
    expect_numbers("points", given);
    const std::array<float, 3> point{static_cast<float>(given[0]), static_cast<float>(given[1]),
                                     static_cast<float>(given[2])};
    auto turns = std::nearbyint(point[2] / static_cast<float>(2 * M_PI) * 8.0f);
    int64_t turn = ((static_cast<int64_t>(turns) % 8) + 8) % 8;
    if (spacing_m <= 0 || taken.insert({square(point[0]), square(point[1]), turn}).second)
      kept.push_back(point);
  }
  return kept;
}

// The so many points that are nearest to the ego, in their order.
inline LanePoints nearest_points(const LanePoints& points, size_t most) {
  std::vector<size_t> order(points.size());
  std::iota(order.begin(), order.end(), 0);
  auto far = [&](size_t i) { return std::hypot(points[i][0], points[i][1]); };
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return far(a) < far(b); });
  order.resize(std::min(most, order.size()));
  std::sort(order.begin(), order.end());
  LanePoints kept;
  for (size_t i : order) kept.push_back(points[i]);
  return kept;
}

}  // namespace forecast
