// One exported graph on ONNX Runtime: tensors by name go in and come out.
#pragma once

#include <onnxruntime_cxx_api.h>

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "folder.hpp"

namespace forecast {

// Numbers of one shape and type.
struct Tensor {
  std::vector<int64_t> shape;
  ONNXTensorElementDataType type = ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
  std::vector<char> bytes;

  template <typename T>
  T* as() {
    return reinterpret_cast<T*>(bytes.data());
  }
};

using Tensors = std::map<std::string, Tensor>;

inline size_t bytes_of(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64:
      return 8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return 4;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return 1;
    default:
      refuse("float, int64 or bool tensors", "another type", "export again");
  }
}

inline Tensor zeros(std::vector<int64_t> shape, ONNXTensorElementDataType type) {
  size_t count = 1;
  for (int64_t size : shape) count *= static_cast<size_t>(size);
  return {std::move(shape), type, std::vector<char>(count * bytes_of(type))};
}

class Graph {
 public:
  // Of a file `name`.onnx, which has to say itself that it is this one.
  Graph(Ort::Env& env, const Folder& folder, const std::string& name,
        const Ort::SessionOptions& options)
      : Graph(env, name, folder.read(name + ".onnx"), options) {}

  // What every graph tells of its export.
  std::string told(const std::string& key) {
    auto value = session_.GetModelMetadata().LookupCustomMetadataMapAllocated(
        ("bev_forecast" + key).c_str(), allocator_);
    if (!value) refuse("graphs that tell bev_forecast" + key, "none in " + name_, "export again");
    return value.get();
  }

  template <size_t N>
  std::array<double, N> told_numbers(const std::string& key) {
    std::array<double, N> numbers{};
    std::istringstream words(told(key));
    for (double& number : numbers)
      if (!(words >> number)) refuse("numbers as bev_forecast" + key, words.str(), "export again");
    return numbers;
  }

  // What it says. What is given goes before what the state holds.
  Tensors run(Tensors& state, Tensors& given) {
    auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<const char*> names, said_names;
    std::vector<Ort::Value> values;
    for (auto& [name, zero] : inputs) {
      Tensor& tensor = given.count(name) ? given.at(name) : state.at(name);
      names.push_back(name.c_str());
      values.push_back(Ort::Value::CreateTensor(memory, tensor.bytes.data(), tensor.bytes.size(),
                                                zero.shape.data(), zero.shape.size(), zero.type));
    }
    for (const std::string& name : outputs_) said_names.push_back(name.c_str());
    auto said = session_.Run(Ort::RunOptions{nullptr}, names.data(), values.data(), values.size(),
                             said_names.data(), said_names.size());
    Tensors result;
    for (size_t i = 0; i < said.size(); ++i) {
      auto info = said[i].GetTensorTypeAndShapeInfo();
      Tensor tensor = zeros(info.GetShape(), info.GetElementType());
      std::memcpy(tensor.bytes.data(), said[i].GetTensorData<char>(), tensor.bytes.size());
      result[outputs_[i]] = std::move(tensor);
    }
    return result;
  }

  Tensors inputs;

 private:
  Graph(Ort::Env& env, const std::string& name, const std::string& bytes,
        const Ort::SessionOptions& options)
      : name_(name), session_(env, bytes.data(), bytes.size(), options) {
    if (told("_graph") != name) refuse("the graph " + name, told("_graph"), "export again");
    for (size_t i = 0; i < session_.GetInputCount(); ++i) {
      auto type = session_.GetInputTypeInfo(i);
      auto info = type.GetTensorTypeAndShapeInfo();
      inputs[session_.GetInputNameAllocated(i, allocator_).get()] =
          zeros(info.GetShape(), info.GetElementType());
    }
    for (size_t i = 0; i < session_.GetOutputCount(); ++i)
      outputs_.push_back(session_.GetOutputNameAllocated(i, allocator_).get());
  }

  std::string name_;
  Ort::AllocatorWithDefaultOptions allocator_;
  Ort::Session session_;
  std::vector<std::string> outputs_;
};

}  // namespace forecast
