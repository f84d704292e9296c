//! Generates the gRPC services with a pure-Rust protobuf compiler: no protoc on the machine is needed.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    #[cfg(feature = "grpc")]
    {
        let files = ["proto/api.proto", "proto/peer.proto"];
        for file in files {
            println!("cargo:rerun-if-changed={file}");
        }
        let descriptors = protox::compile(files, ["proto"])?;
        tonic_prost_build::configure().bytes(".").btree_map(".").compile_fds(descriptors)?;
    }
    Ok(())
}
