// rust_get HOST:PORT PATH: the standard library's TcpStream, with its resolver (libc's getaddrinfo, linked statically).
use std::io::{self, Read, Write};
use std::net::TcpStream;

fn main() -> io::Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut stream = TcpStream::connect(&words[0])?;
    write!(stream, "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n", words[1], words[0])?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    print!("{answer}");
    Ok(())
}
