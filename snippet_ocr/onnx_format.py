"""The part of ONNX's format (https://onnx.ai/onnx/repo-docs/IR.html) that `safety` checks.

It is repeated here so that reading needs protobuf, which comes with onnxruntime, but not the package onnx.
"""

import functools
import re

# Messages that a reader must not contain are declared as bytes: only their presence matters.
ONNX_MESSAGES = """
message Model { optional Graph graph = 7; repeated bytes training_info = 20; repeated bytes functions = 25;
                repeated Entry metadata_props = 14; }
message Entry { optional bytes key = 1; optional bytes value = 2; }
message Graph { repeated Node node = 1; repeated Tensor initializer = 5; repeated Value input = 11;
                repeated bytes sparse_initializer = 15; }
message Node { optional string op_type = 4; optional string domain = 7; repeated Attribute attribute = 5; }
message Attribute { optional string name = 1; repeated bytes t = 5; repeated bytes g = 6;
                    repeated bytes tensors = 10; repeated bytes graphs = 11; repeated bytes sparse = 22; }
message Tensor { optional string name = 8; repeated int64 dims = 1; optional int32 data_type = 2;
                 optional bytes raw_data = 9; repeated bytes external_data = 13;
                 optional int32 data_location = 14; }
message Value { optional Type type = 2; }
message Type { optional TensorType tensor_type = 1; }
message TensorType { optional int32 elem_type = 1; optional Shape shape = 2; }
message Shape { repeated Dimension dim = 1; }
message Dimension { optional int64 dim_value = 1; }
"""


@functools.cache
def message_class(name):
    """Returns the protobuf class of a message in `ONNX_MESSAGES`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="reader.proto", package="reader", syntax="proto2")
    for message, fields in re.findall(r"message (\w+) {(.*?)}", ONNX_MESSAGES, re.DOTALL):
        descriptor = file.message_type.add(name=message)
        for label, kind, field, number in re.findall(r"(\w+) (\w+) (\w+) = (\d+);", fields):
            added = descriptor.field.add(name=field, number=int(number), label=f"LABEL_{label.upper()}")
            if kind[0].isupper():
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".reader.{kind}"
            else:
                added.type = kinds.Type.Value(f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"reader.{name}"))
