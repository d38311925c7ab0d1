{ pascal HOST PORT PATH: fetches with Free Pascal's own resolver and sockets, which make system calls themselves. }
program pascal;
uses {$ifdef THREADS} cthreads, {$endif} sysutils, sockets, netdb;
var
  host: THostEntry;
  address: TInetSockAddr;
  fd, got: longint;
  text: string;
  room: array[0..1023] of char;
begin
  if not ResolveHostByName(ParamStr(1), host) then begin writeln(StdErr, 'no address'); halt(1) end;
  fd := fpSocket(AF_INET, SOCK_STREAM, 0);
  address.sin_family := AF_INET;
  address.sin_port := htons(StrToInt(ParamStr(2)));
  address.sin_addr.s_addr := host.Addr.s_addr;
  if fpConnect(fd, @address, sizeof(address)) <> 0 then begin writeln(StdErr, 'connect: ', SocketError); halt(1) end;
  text := 'GET ' + ParamStr(3) + ' HTTP/1.0'#13#10'Host: ' + ParamStr(1) + #13#10#13#10;
  fpSend(fd, @text[1], length(text), 0);
  repeat
    got := fpRecv(fd, @room, sizeof(room), 0);
    if got > 0 then begin SetString(text, room, got); write(text) end
  until got <= 0;
end.
