/**
 * An SMTP sink that does next to nothing, in a process of its own, so that the sender is measured and not the receiver.
 * Counts final dots; prints its port, then answers each line on standard input with its count.
 */
import { type AddressInfo, createServer } from 'node:net';

let messages = 0;
const server = createServer((socket) => {
  socket.setNoDelay(true);
  let rest = '';
  let inMessage = false;
  socket.write('220 sink\r\n');
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    rest += chunk.toString('latin1');
    let answer = '';
    for (;;) {
      if (inMessage) {
        const end = rest.indexOf('\r\n.\r\n');
        if (end < 0) break;
        rest = rest.slice(end + 5);
        inMessage = false;
        messages += 1;
        answer += '250 ok\r\n';
        continue;
      }
      const end = rest.indexOf('\r\n');
      if (end < 0) break;
      const verb = rest.slice(0, 4).toUpperCase();
      rest = rest.slice(end + 2);
      inMessage = verb === 'DATA';
      if (verb === 'DATA') answer += '354 go\r\n';
      else if (verb === 'EHLO') answer += '250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n';
      else if (verb === 'QUIT') answer += '221 bye\r\n';
      else answer += '250 ok\r\n';
    }
    if (answer !== '') socket.write(answer);
  });
});
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));
process.on('message', () => process.send?.({ messages }));
process.on('disconnect', () => process.exit());
