from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_FREE: _ClassVar[State]
    STATE_LEASED: _ClassVar[State]
    STATE_MEASURING: _ClassVar[State]
    STATE_QUARANTINED: _ClassVar[State]
STATE_UNSPECIFIED: State
STATE_FREE: State
STATE_LEASED: State
STATE_MEASURING: State
STATE_QUARANTINED: State

class DescribeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DescribeReply(_message.Message):
    __slots__ = ("agent_version", "service_version", "runtime_abi", "arch", "kind", "name", "fingerprint", "capabilities", "state", "holder", "lease_remaining_s", "reason")
    class FingerprintEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    AGENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUNTIME_ABI_FIELD_NUMBER: _ClassVar[int]
    ARCH_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    LEASE_REMAINING_S_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    agent_version: str
    service_version: int
    runtime_abi: int
    arch: str
    kind: str
    name: str
    fingerprint: _containers.ScalarMap[str, str]
    capabilities: _containers.RepeatedScalarFieldContainer[str]
    state: State
    holder: str
    lease_remaining_s: float
    reason: str
    def __init__(self, agent_version: _Optional[str] = ..., service_version: _Optional[int] = ..., runtime_abi: _Optional[int] = ..., arch: _Optional[str] = ..., kind: _Optional[str] = ..., name: _Optional[str] = ..., fingerprint: _Optional[_Mapping[str, str]] = ..., capabilities: _Optional[_Iterable[str]] = ..., state: _Optional[_Union[State, str]] = ..., holder: _Optional[str] = ..., lease_remaining_s: _Optional[float] = ..., reason: _Optional[str] = ...) -> None: ...

class LeaseToken(_message.Message):
    __slots__ = ("fence", "secret")
    FENCE_FIELD_NUMBER: _ClassVar[int]
    SECRET_FIELD_NUMBER: _ClassVar[int]
    fence: int
    secret: str
    def __init__(self, fence: _Optional[int] = ..., secret: _Optional[str] = ...) -> None: ...

class AcquireRequest(_message.Message):
    __slots__ = ("holder", "ttl_s", "nonce")
    HOLDER_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    holder: str
    ttl_s: float
    nonce: str
    def __init__(self, holder: _Optional[str] = ..., ttl_s: _Optional[float] = ..., nonce: _Optional[str] = ...) -> None: ...

class LeaseReply(_message.Message):
    __slots__ = ("token", "ttl_s")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TTL_S_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    ttl_s: float
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., ttl_s: _Optional[float] = ...) -> None: ...

class RenewRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ...) -> None: ...

class ReleaseReply(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Blob(_message.Message):
    __slots__ = ("digest", "size_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    size_bytes: int
    def __init__(self, digest: _Optional[str] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class MissingBlobsRequest(_message.Message):
    __slots__ = ("token", "blobs")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BLOBS_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    blobs: _containers.RepeatedCompositeFieldContainer[Blob]
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., blobs: _Optional[_Iterable[_Union[Blob, _Mapping]]] = ...) -> None: ...

class MissingBlob(_message.Message):
    __slots__ = ("digest", "have_bytes")
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    HAVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    digest: str
    have_bytes: int
    def __init__(self, digest: _Optional[str] = ..., have_bytes: _Optional[int] = ...) -> None: ...

class MissingBlobsReply(_message.Message):
    __slots__ = ("missing",)
    MISSING_FIELD_NUMBER: _ClassVar[int]
    missing: _containers.RepeatedCompositeFieldContainer[MissingBlob]
    def __init__(self, missing: _Optional[_Iterable[_Union[MissingBlob, _Mapping]]] = ...) -> None: ...

class BlobChunk(_message.Message):
    __slots__ = ("token", "blob", "offset_bytes", "data")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BLOB_FIELD_NUMBER: _ClassVar[int]
    OFFSET_BYTES_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    blob: Blob
    offset_bytes: int
    data: bytes
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., blob: _Optional[_Union[Blob, _Mapping]] = ..., offset_bytes: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class PutBlobReply(_message.Message):
    __slots__ = ("have_bytes",)
    HAVE_BYTES_FIELD_NUMBER: _ClassVar[int]
    have_bytes: int
    def __init__(self, have_bytes: _Optional[int] = ...) -> None: ...

class PutArtifactRequest(_message.Message):
    __slots__ = ("token", "manifest_json")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    MANIFEST_JSON_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    manifest_json: bytes
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., manifest_json: _Optional[bytes] = ...) -> None: ...

class PutArtifactReply(_message.Message):
    __slots__ = ("digest",)
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    digest: str
    def __init__(self, digest: _Optional[str] = ...) -> None: ...

class Conditions(_message.Message):
    __slots__ = ("at_ns", "temperature_c", "clock_mhz", "throttle_bits", "load_ratio", "free_memory_bytes", "governor")
    AT_NS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    CLOCK_MHZ_FIELD_NUMBER: _ClassVar[int]
    THROTTLE_BITS_FIELD_NUMBER: _ClassVar[int]
    LOAD_RATIO_FIELD_NUMBER: _ClassVar[int]
    FREE_MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    GOVERNOR_FIELD_NUMBER: _ClassVar[int]
    at_ns: int
    temperature_c: float
    clock_mhz: float
    throttle_bits: int
    load_ratio: float
    free_memory_bytes: int
    governor: str
    def __init__(self, at_ns: _Optional[int] = ..., temperature_c: _Optional[float] = ..., clock_mhz: _Optional[float] = ..., throttle_bits: _Optional[int] = ..., load_ratio: _Optional[float] = ..., free_memory_bytes: _Optional[int] = ..., governor: _Optional[str] = ...) -> None: ...

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class VerifyRequest(_message.Message):
    __slots__ = ("token", "artifact", "deadline_s", "memory_limit_bytes")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    artifact: str
    deadline_s: float
    memory_limit_bytes: int
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., artifact: _Optional[str] = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ...) -> None: ...

class LayerCheck(_message.Message):
    __slots__ = ("layer", "quantize_elements", "quantize_mismatches", "quantize_ties", "quantize_largest", "accumulate_elements", "accumulate_mismatches", "accumulate_largest")
    LAYER_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_MISMATCHES_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_TIES_FIELD_NUMBER: _ClassVar[int]
    QUANTIZE_LARGEST_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_ELEMENTS_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_MISMATCHES_FIELD_NUMBER: _ClassVar[int]
    ACCUMULATE_LARGEST_FIELD_NUMBER: _ClassVar[int]
    layer: str
    quantize_elements: int
    quantize_mismatches: int
    quantize_ties: int
    quantize_largest: int
    accumulate_elements: int
    accumulate_mismatches: int
    accumulate_largest: int
    def __init__(self, layer: _Optional[str] = ..., quantize_elements: _Optional[int] = ..., quantize_mismatches: _Optional[int] = ..., quantize_ties: _Optional[int] = ..., quantize_largest: _Optional[int] = ..., accumulate_elements: _Optional[int] = ..., accumulate_mismatches: _Optional[int] = ..., accumulate_largest: _Optional[int] = ...) -> None: ...

class VerifyReply(_message.Message):
    __slots__ = ("layers", "output_largest", "output_range", "forced_output_largest")
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_LARGEST_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_RANGE_FIELD_NUMBER: _ClassVar[int]
    FORCED_OUTPUT_LARGEST_FIELD_NUMBER: _ClassVar[int]
    layers: _containers.RepeatedCompositeFieldContainer[LayerCheck]
    output_largest: float
    output_range: float
    forced_output_largest: float
    def __init__(self, layers: _Optional[_Iterable[_Union[LayerCheck, _Mapping]]] = ..., output_largest: _Optional[float] = ..., output_range: _Optional[float] = ..., forced_output_largest: _Optional[float] = ...) -> None: ...

class TimingPlan(_message.Message):
    __slots__ = ("number", "mode", "warmup_runs", "warmup_s", "warmup_cap_s", "settle_ratio", "runs", "seconds", "cap_s", "half_width_ratio", "blocks", "gate_wait_s", "gate_temperature_c", "idle_s")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_S_FIELD_NUMBER: _ClassVar[int]
    WARMUP_CAP_S_FIELD_NUMBER: _ClassVar[int]
    SETTLE_RATIO_FIELD_NUMBER: _ClassVar[int]
    RUNS_FIELD_NUMBER: _ClassVar[int]
    SECONDS_FIELD_NUMBER: _ClassVar[int]
    CAP_S_FIELD_NUMBER: _ClassVar[int]
    HALF_WIDTH_RATIO_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    GATE_WAIT_S_FIELD_NUMBER: _ClassVar[int]
    GATE_TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    IDLE_S_FIELD_NUMBER: _ClassVar[int]
    number: int
    mode: str
    warmup_runs: int
    warmup_s: float
    warmup_cap_s: float
    settle_ratio: float
    runs: int
    seconds: float
    cap_s: float
    half_width_ratio: float
    blocks: int
    gate_wait_s: float
    gate_temperature_c: float
    idle_s: float
    def __init__(self, number: _Optional[int] = ..., mode: _Optional[str] = ..., warmup_runs: _Optional[int] = ..., warmup_s: _Optional[float] = ..., warmup_cap_s: _Optional[float] = ..., settle_ratio: _Optional[float] = ..., runs: _Optional[int] = ..., seconds: _Optional[float] = ..., cap_s: _Optional[float] = ..., half_width_ratio: _Optional[float] = ..., blocks: _Optional[int] = ..., gate_wait_s: _Optional[float] = ..., gate_temperature_c: _Optional[float] = ..., idle_s: _Optional[float] = ...) -> None: ...

class MeasureRequest(_message.Message):
    __slots__ = ("token", "artifact", "plan", "synthetic_weights", "deadline_s", "memory_limit_bytes")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    PLAN_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    artifact: str
    plan: TimingPlan
    synthetic_weights: bool
    deadline_s: float
    memory_limit_bytes: int
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., artifact: _Optional[str] = ..., plan: _Optional[_Union[TimingPlan, _Mapping]] = ..., synthetic_weights: bool = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ("phase", "block", "samples")
    PHASE_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    phase: str
    block: int
    samples: int
    def __init__(self, phase: _Optional[str] = ..., block: _Optional[int] = ..., samples: _Optional[int] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("samples_ns", "warmup_runs", "settled", "start", "end")
    SAMPLES_NS_FIELD_NUMBER: _ClassVar[int]
    WARMUP_RUNS_FIELD_NUMBER: _ClassVar[int]
    SETTLED_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    samples_ns: _containers.RepeatedScalarFieldContainer[int]
    warmup_runs: int
    settled: bool
    start: Conditions
    end: Conditions
    def __init__(self, samples_ns: _Optional[_Iterable[int]] = ..., warmup_runs: _Optional[int] = ..., settled: bool = ..., start: _Optional[_Union[Conditions, _Mapping]] = ..., end: _Optional[_Union[Conditions, _Mapping]] = ...) -> None: ...

class Energy(_message.Message):
    __slots__ = ("active_j", "active_s", "inferences", "idle_w", "readings", "meter")
    ACTIVE_J_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_S_FIELD_NUMBER: _ClassVar[int]
    INFERENCES_FIELD_NUMBER: _ClassVar[int]
    IDLE_W_FIELD_NUMBER: _ClassVar[int]
    READINGS_FIELD_NUMBER: _ClassVar[int]
    METER_FIELD_NUMBER: _ClassVar[int]
    active_j: float
    active_s: float
    inferences: int
    idle_w: float
    readings: int
    meter: str
    def __init__(self, active_j: _Optional[float] = ..., active_s: _Optional[float] = ..., inferences: _Optional[int] = ..., idle_w: _Optional[float] = ..., readings: _Optional[int] = ..., meter: _Optional[str] = ...) -> None: ...

class Counter(_message.Message):
    __slots__ = ("name", "value", "enabled_ns", "running_ns")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    ENABLED_NS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_NS_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: int
    enabled_ns: int
    running_ns: int
    def __init__(self, name: _Optional[str] = ..., value: _Optional[int] = ..., enabled_ns: _Optional[int] = ..., running_ns: _Optional[int] = ...) -> None: ...

class MeasureResult(_message.Message):
    __slots__ = ("energy", "counters", "notes")
    ENERGY_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    energy: Energy
    counters: _containers.RepeatedCompositeFieldContainer[Counter]
    notes: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, energy: _Optional[_Union[Energy, _Mapping]] = ..., counters: _Optional[_Iterable[_Union[Counter, _Mapping]]] = ..., notes: _Optional[_Iterable[str]] = ...) -> None: ...

class MeasureEvent(_message.Message):
    __slots__ = ("progress", "block", "result")
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    progress: Progress
    block: Block
    result: MeasureResult
    def __init__(self, progress: _Optional[_Union[Progress, _Mapping]] = ..., block: _Optional[_Union[Block, _Mapping]] = ..., result: _Optional[_Union[MeasureResult, _Mapping]] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("token", "artifact", "deadline_s", "samples")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    artifact: str
    deadline_s: float
    samples: Tensor
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., artifact: _Optional[str] = ..., deadline_s: _Optional[float] = ..., samples: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class InferReply(_message.Message):
    __slots__ = ("outputs",)
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    outputs: Tensor
    def __init__(self, outputs: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...

class ProfileRequest(_message.Message):
    __slots__ = ("token", "artifact", "repeats", "synthetic_weights", "deadline_s", "memory_limit_bytes")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ARTIFACT_FIELD_NUMBER: _ClassVar[int]
    REPEATS_FIELD_NUMBER: _ClassVar[int]
    SYNTHETIC_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_S_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_BYTES_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    artifact: str
    repeats: int
    synthetic_weights: bool
    deadline_s: float
    memory_limit_bytes: int
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ..., artifact: _Optional[str] = ..., repeats: _Optional[int] = ..., synthetic_weights: bool = ..., deadline_s: _Optional[float] = ..., memory_limit_bytes: _Optional[int] = ...) -> None: ...

class KernelTiming(_message.Message):
    __slots__ = ("index", "call", "layer", "kind", "samples_ns")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    CALL_FIELD_NUMBER: _ClassVar[int]
    LAYER_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_NS_FIELD_NUMBER: _ClassVar[int]
    index: int
    call: str
    layer: str
    kind: str
    samples_ns: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, index: _Optional[int] = ..., call: _Optional[str] = ..., layer: _Optional[str] = ..., kind: _Optional[str] = ..., samples_ns: _Optional[_Iterable[int]] = ...) -> None: ...

class ProfileReply(_message.Message):
    __slots__ = ("kernels",)
    KERNELS_FIELD_NUMBER: _ClassVar[int]
    kernels: _containers.RepeatedCompositeFieldContainer[KernelTiming]
    def __init__(self, kernels: _Optional[_Iterable[_Union[KernelTiming, _Mapping]]] = ...) -> None: ...

class TelemetryRequest(_message.Message):
    __slots__ = ("period_s", "count")
    PERIOD_S_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    period_s: float
    count: int
    def __init__(self, period_s: _Optional[float] = ..., count: _Optional[int] = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: LeaseToken
    def __init__(self, token: _Optional[_Union[LeaseToken, _Mapping]] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ("cancelled",)
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    cancelled: bool
    def __init__(self, cancelled: bool = ...) -> None: ...
