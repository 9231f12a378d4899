// Forecasts the history of an exported folder: forecast_history FOLDER SLOTS
// Prints what examples/onnx_python/forecast_history.py prints.
#include <cstdio>
#include <fstream>
#include <iostream>

#include "host.hpp"

namespace {

struct History {
  double dt_s = 0;
  forecast::Map map;
  forecast::Points points;
  std::vector<forecast::Moment> moments;
};

// Reads history.txt word by word; whatever is no such history is refused.
class Words {
 public:
  explicit Words(const std::string& path) : path_(path), in_(path) {}

  [[noreturn]] void refuse(const std::string& found) const {
    forecast::refuse("the history that was exported", path_ + " (" + found + ")", "export again");
  }

  template <typename T>
  T next() {
    T value{};
    if (!(in_ >> value)) refuse("it ends, or a number is none");
    return value;
  }

  // The value after its name.
  template <typename T>
  T next(const std::string& name) {
    expect(name);
    return next<T>();
  }

  void expect(const std::string& name) {
    const auto found = next<std::string>();
    if (found != name) refuse("'" + found.substr(0, 40) + "' in place of " + name);
  }

 private:
  std::string path_;
  std::ifstream in_;
};

forecast::Moment read_moment(Words& words) {
  forecast::Moment moment;
  moment.time_s = words.next<double>("moment");
  for (double& number : moment.ego) number = words.next<double>();
  moment.raster = words.next<bool>();
  const auto boxes = words.next<int64_t>(), ids = words.next<int64_t>();
  for (int64_t i = 0; i < boxes; ++i) {
    forecast::Box box{words.next<int64_t>(), words.next<int64_t>(), {}};
    for (double& number : box.pose_size) number = words.next<double>();
    moment.boxes.push_back(box);
  }
  for (int64_t i = 0; i < ids; ++i) moment.raster_ids.insert(words.next<int64_t>());
  return moment;
}

forecast::Map read_map(Words& words) {
  forecast::Map map;
  words.expect("map");
  for (int64_t& size : map.shape) {
    size = words.next<int64_t>();
    if (size < 0 || size > 100000) words.refuse("a map of size " + std::to_string(size));
  }
  const auto [layers, rows, columns] = map.shape;
  for (int64_t layer = 0; layer < layers; ++layer)
    for (int64_t i = 0; i < rows; ++i) {
      const auto row = words.next<std::string>();
      if (static_cast<int64_t>(row.size()) != columns ||
          row.find_first_not_of("01") != std::string::npos)
        words.refuse("a row of the map that is not of 0 and 1, or of another length");
      for (char cell : row) map.cells.push_back(cell == '1' ? 1.0f : 0.0f);
    }
  return map;
}

History read_history(const std::string& path) {
  Words words(path);
  History history;
  words.expect("bev-forecast-history/1");
  history.dt_s = words.next<double>("dt_s");
  words.next<double>("lane_spacing_m");  // the graphs tell it as well
  history.map = read_map(words);
  for (auto left = words.next<int64_t>("points"); left > 0; --left)
    history.points.push_back({words.next<double>(), words.next<double>(), words.next<double>()});
  for (auto left = words.next<int64_t>("moments"); left > 0; --left)
    history.moments.push_back(read_moment(words));
  return history;
}

}  // namespace

int main(int count, char** words) {
  if (count != 3) {
    std::cerr << "usage: forecast_history FOLDER SLOTS\n";
    return 2;
  }
  try {
    const std::string folder = words[1], slots = words[2];
    if (!forecast::is_whole(slots)) forecast::refuse("a number of slots", slots, "correct it");
    forecast::Forecaster forecaster(folder, std::stoll(slots), 1);
    const History history = read_history(folder + "/history.txt");
    forecaster.start(&history.map, history.points);
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
