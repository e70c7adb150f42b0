"""TensorFlow's operations that read or write files, reach the network, or run code: by name, what each does.

Source: tensorflow/core/ops/*.cc; a test compares the names with TensorFlow's registry.
"""

from __future__ import annotations

_READS = "reads files of the machine that runs it"
_WRITES = "writes files on the machine that runs it"
_PYTHON = "runs Python code of the process"
_NETWORK = "talks to other machines"

DANGEROUS = {
    **dict.fromkeys(["PyFunc", "PyFuncStateless", "EagerPyFunc"], _PYTHON),
    **dict.fromkeys(
        [
            *("ReadFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2", "IdentityReader"),
            *("IdentityReaderV2", "LMDBReader", "TextLineReader", "TextLineReaderV2", "FixedLengthRecordReader"),
            *("FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2", "ReaderRead", "ReaderReadV2"),
            *("ReaderReadUpTo", "ReaderReadUpToV2", "RecordInput", "TextLineDataset", "TFRecordDataset"),
            *("TFRecordDatasetV2", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2", "LMDBDataset"),
            *("ExperimentalLMDBDataset", "MatchingFilesDataset", "ExperimentalMatchingFilesDataset", "CSVDataset"),
            *("CSVDatasetV2", "ExperimentalCSVDataset", "LoadDataset", "ListSnapshotChunksDataset"),
            *("SnapshotDatasetReader", "SnapshotNestedDatasetReader", "ImmutableConst", "LoadAndRemapMatrix"),
            "GenerateVocabRemapping",
        ],
        _READS,
    ),
    **dict.fromkeys(
        [
            *("WriteFile", "SaveDataset", "SaveDatasetV2", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord"),
            *("SnapshotDataset", "SnapshotDatasetV2", "SnapshotChunkDataset", "DistributedSave", "DumpTensor"),
            *("CalibrationStatisticsSaver", "CreateSummaryFileWriter", "CreateSummaryDbWriter", "WriteSummary"),
            *("WriteGraphSummary", "WriteRawProtoSummary", "WriteAudioSummary", "WriteImageSummary"),
            *("WriteHistogramSummary", "WriteScalarSummary"),
        ],
        _WRITES,
    ),
    **dict.fromkeys(["CacheDataset", "CacheDatasetV2"], "may write files on the machine that runs it"),
    **dict.fromkeys(
        [
            *("DebugIdentity", "DebugIdentityV2", "DebugIdentityV3", "DebugNanCount", "DebugNumericSummary"),
            "DebugNumericSummaryV2",
        ],
        "sends tensors to files or other machines",
    ),
    **dict.fromkeys(
        [
            *("RpcCall", "RpcClient", "RpcServer", "RpcServerRegister", "RpcServerStart", "RemoteCall"),
            *("SqlDataset", "ExperimentalSqlDataset", "DataServiceDataset", "DataServiceDatasetV2"),
            *("DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset", "RegisterDatasetV2"),
            "FileSystemSetConfiguration",
        ],
        _NETWORK,
    ),
}

OF_CHECKPOINTS = {
    **dict.fromkeys(["Restore", "RestoreSlice", "RestoreV2"], f"{_READS}, outside of the model's own variables"),
    **dict.fromkeys(
        ["Save", "SaveSlices", "SaveV2", "MergeV2Checkpoints"], f"{_WRITES}, outside of the model's own variables"
    ),
    **dict.fromkeys(["ShardedFilename", "ShardedFilespec"], "names files, outside of the model's own variables"),
}
"""What each SavedModel needs to restore its variables, and no signature needs to answer."""

OF_TABLES = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
"""Harmless where they read an asset of the SavedModel."""

BY_ATTRIBUTE = {
    "PrintV2": ("output_stream", ("stdout", "stderr", "log("), "writes into a file"),
    "DecodeProtoV2": ("descriptor_source", ("local://", "bytes://"), "reads a local file"),
    "FixedUnigramCandidateSampler": ("vocab_file", (), "reads a local file"),
    "EncodeProto": ("descriptor_source", ("local://", "bytes://"), "reads a local file"),
}
"""Operations of which one attribute decides: its name, how its harmless values begin, what the others do."""
