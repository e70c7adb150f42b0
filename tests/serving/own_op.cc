// An operation that TensorFlow has not: y = 2 x, for one float; in its C interface, which compiles in a second.
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_tensor.h"

static void Compute(void*, TF_OpKernelContext* context) {
  TF_Status* status = TF_NewStatus();
  TF_Tensor* x = nullptr;
  TF_GetInput(context, 0, &x, status);
  TF_Tensor* y = TF_AllocateTensor(TF_FLOAT, nullptr, 0, sizeof(float));
  *static_cast<float*>(TF_TensorData(y)) = 2 * *static_cast<float*>(TF_TensorData(x));
  TF_SetOutput(context, 0, y, status);
  TF_DeleteTensor(x);
  TF_DeleteTensor(y);
  TF_DeleteStatus(status);
}

static bool Register() {
  TF_Status* status = TF_NewStatus();
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder("KerashipDouble");
  TF_OpDefinitionBuilderAddInput(definition, "x: float");
  TF_OpDefinitionBuilderAddOutput(definition, "y: float");
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, &TF_ShapeInferenceContextSetUnknownShape);
  TF_RegisterOpDefinition(definition, status);
  TF_KernelBuilder* kernel = TF_NewKernelBuilder("KerashipDouble", "CPU", nullptr, &Compute, nullptr);
  TF_RegisterKernelBuilder("KerashipDouble", kernel, status);
  TF_DeleteStatus(status);
  return true;
}

static const bool registered = Register();
