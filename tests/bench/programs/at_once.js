// at_once.js floor|plain PROXY_PORT NAME PORT N: connects at once, to the first byte of each; is the loop held?
// "floor" speaks CONNECT itself. One connect goes first, so that everything is loaded and compiled.
const net = require("net")
const [how, proxy, name, port, count] = process.argv.slice(2)

function connect(done) {
  const floor = how === "floor"
  const socket = floor ? net.connect(+proxy, "127.0.0.1") : net.connect(+port, name)
  let over = false, head = floor
  const end = error => {
    if (over) return
    over = true
    socket.destroy()
    done(error)
  }
  const request = `CONNECT ${name}:${port} HTTP/1.1\r\nHost: ${name}:${port}\r\n\r\n`
  if (floor) socket.on("connect", () => socket.write(request))
  socket.on("data", bytes => {
    if (head && bytes.toString("latin1").slice(9, 12) !== "200") return end(new Error("refused"))
    const behind = head ? bytes.indexOf("\r\n\r\n") + 4 : 0
    head = false
    if (bytes.length > behind) end()
  })
  socket.on("error", end)
  socket.on("close", () => end(new Error("closed")))
}

connect(() => {
  let last = performance.now(), held = 0, left = +count, errors = 0
  const begin = last
  const look = () => {
    const now = performance.now()
    held = Math.max(held, now - last - 1)
    last = now
  }
  const ticker = setInterval(look, 1)
  for (let i = 0; i < +count; ++i) connect(error => {
    if (error) { ++errors; console.error(error.message) }
    if (--left > 0) return
    look()
    clearInterval(ticker)
    console.log(`total_ms=${(last - begin).toFixed(2)}\nheld_ms=${held.toFixed(2)}\nerrors=${errors}`)
  })
})
