fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["proto/things.proto"], ["proto"])?;
    Ok(tonic_prost_build::compile_fds(files)?)
}
