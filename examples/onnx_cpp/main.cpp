// Forecasts the history of an exported folder: forecast_history FOLDER SLOTS
// Prints what examples/onnx_python/forecast_history.py prints.
#include <cstdio>
#include <fstream>
#include <iostream>

#include "host.hpp"

namespace {

struct History {
  float dt_s = 0, lane_spacing_m = 0;
  std::vector<float> map;
  std::vector<std::array<float, 3>> points;
  std::vector<forecast::Moment> moments;
};

void expect(std::istream& in, const std::string& word) {
  std::string found;
  if (!(in >> found) || found != word)
    throw std::runtime_error("expected '" + word + "' in history.txt; got '" + found + "'; export again");
}

forecast::Moment read_moment(std::istream& in) {
  forecast::Moment moment;
  size_t boxes, ids;
  expect(in, "moment");
  in >> moment.time_s >> moment.ego[0] >> moment.ego[1] >> moment.ego[2] >> moment.raster >> boxes >>
      ids;
  moment.boxes.resize(boxes);
  for (auto& box : moment.boxes) {
    in >> box.id >> box.label;
    for (float& number : box.pose_size) in >> number;
  }
  for (size_t i = 0; i < ids; ++i) {
    int64_t id;
    in >> id;
    moment.raster_ids.insert(id);
  }
  return moment;
}

History read_history(const std::string& path) {
  std::ifstream in(path);
  History history;
  size_t layers, rows, columns, points, moments;
  expect(in, "bev-forecast-history/1");
  expect(in, "dt_s");
  in >> history.dt_s;
  expect(in, "lane_spacing_m");
  in >> history.lane_spacing_m;
  expect(in, "map");
  in >> layers >> rows >> columns;
  for (size_t i = 0; i < layers * rows; ++i) {
    std::string row;
    in >> row;
    for (char cell : row) history.map.push_back(cell == '1' ? 1.0f : 0.0f);
  }
  expect(in, "points");
  in >> points;
  history.points.resize(points);
  for (auto& point : history.points) in >> point[0] >> point[1] >> point[2];
  expect(in, "moments");
  in >> moments;
  for (size_t i = 0; i < moments; ++i) history.moments.push_back(read_moment(in));
  if (!in) throw std::runtime_error("expected a whole " + path + "; got a part; export again");
  return history;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::cerr << "usage: forecast_history FOLDER SLOTS\n";
    return 2;
  }
  try {
    const std::string folder = words[1];
    const History history = read_history(folder + "/history.txt");
    forecast::Forecaster forecaster(folder, std::stoll(words[2]), 1);
    forecaster.start(history.map, history.points, history.lane_spacing_m);
    for (const auto& moment : history.moments) forecaster.observe(moment);
    int lead = 0;
    for (const auto& step : forecaster.forecast(6, history.dt_s)) {
      ++lead;
      for (size_t i = 0; i < step.id.size(); ++i)
        if (step.id[i])
          std::printf("%d %lld %.4f %.4f %.4f %.4f\n", lead, static_cast<long long>(step.id[i]),
                      step.pose[3 * i], step.pose[3 * i + 1], step.pose[3 * i + 2],
                      step.existence[i]);
    }
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 2;
  }
  return 0;
}
