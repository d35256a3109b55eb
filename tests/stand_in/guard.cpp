// Two CUDA devices as far as torch's dispatcher asks for them: which is current, how many there are, streams that do nothing.
#include <ATen/detail/CUDAHooksInterface.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>

static thread_local c10::DeviceIndex current = 0;

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  using Type = c10::DeviceType;
  static c10::Device cuda(c10::DeviceIndex i) { return c10::Device(Type::CUDA, i); }
  static c10::Stream nothing(c10::DeviceIndex i) { return c10::Stream(c10::Stream::DEFAULT, cuda(i)); }
  Type type() const override { return Type::CUDA; }
  c10::Device exchangeDevice(c10::Device d) const override {
    auto before = cuda(current);
    current = d.index() < 0 ? 0 : d.index();
    return before;
  }
  c10::Device getDevice() const override { return cuda(current); }
  void setDevice(c10::Device d) const override { current = d.index() < 0 ? 0 : d.index(); }
  void uncheckedSetDevice(c10::Device d) const noexcept override { current = d.index() < 0 ? 0 : d.index(); }
  c10::Stream getStream(c10::Device d) const noexcept override { return nothing(d.index()); }
  c10::Stream getDefaultStream(c10::Device d) const override { return nothing(d.index()); }
  c10::Stream exchangeStream(c10::Stream s) const noexcept override { return nothing(s.device_index()); }
  c10::DeviceIndex deviceCount() const noexcept override { return 2; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  void destroyEvent(void*, const c10::DeviceIndex) const noexcept override {}
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeStream(const c10::Stream&) const override {}
};

extern "C" void register_stand_in() {
  c10::impl::device_guard_impl_registry[static_cast<size_t>(c10::DeviceType::CUDA)].store(new Guard());
}

namespace at {
struct CUDAHooks final : public CUDAHooksInterface {
  explicit CUDAHooks(CUDAHooksArgs) {}
  void init() const override {}
  bool hasCUDA() const override { return true; }
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return false; }
  c10::DeviceIndex current_device() const override { return current; }
  c10::DeviceIndex getCurrentDevice() const override { return current; }
  c10::DeviceIndex deviceCount() const override { return 2; }
  int getNumGPUs() const override { return 2; }
  bool isPinnedPtr(const void*) const override { return false; }
};
REGISTER_CUDA_HOOKS(CUDAHooks);
}  // namespace at
