// A server that costs nothing: answers each POST at once with a stream of 8 events and [DONE].
//
// One thread, epoll, keep-alive; prints its port. It exists to find the limit of a load client,
// so it reads no request beyond its length. Not here: HTTP in general, or any care for clients
// other than ours.

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace {

std::string chunk(const std::string& data) {
  char size[32];
  std::snprintf(size, sizeof size, "%zx\r\n", data.size());
  return size + data + "\r\n";
}

std::string event(const std::string& json) { return "data: " + json + "\n\n"; }

// The segments of an answer, each of which is written by itself.
std::vector<std::string> answer(bool apart) {
  std::vector<std::string> segments{
      "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"};
  const auto add = [&](const std::string& data) {
    if (apart) {
      segments.push_back(data);
    } else {
      segments.back() += data;
    }
  };
  const std::string head =
      R"({"id":"cmpl-0","object":"text_completion","created":1,"model":"null","choices":)";
  for (int i = 0; i < 8; ++i) {
    const char* finish = i == 7 ? "\"length\"" : "null";
    add(chunk(event(head + R"([{"index":0,"text":" word","finish_reason":)" + finish + "}]}")));
  }
  const char* usage = R"([],"usage":{"prompt_tokens":8,"completion_tokens":8,"total_tokens":16}})";
  add(chunk(event(head + usage)) + chunk("data: [DONE]\n\n") + "0\r\n\r\n");
  return segments;
}

// The length of the first whole request in `in`; 0 if it is not all there.
size_t request_length(std::string_view in) {
  const size_t end = in.find("\r\n\r\n");
  if (end == std::string_view::npos) return 0;
  const size_t field = in.find("Content-Length: ");
  const size_t body = field < end ? std::strtoul(in.data() + field + 16, nullptr, 10) : 0;
  return end + 4 + body <= in.size() ? end + 4 + body : 0;
}

bool write_all(int fd, const std::string& data) {
  // Answers are far smaller than a socket's buffer: a short write means that the client is gone.
  return send(fd, data.data(), data.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(data.size());
}

class Server {
 public:
  explicit Server(bool apart) : answer_(answer(apart)) {
    listener_ = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (bind(listener_, generic, size) != 0 || listen(listener_, 4096) != 0 ||
        getsockname(listener_, generic, &size) != 0) {
      std::perror("null_server");
      std::exit(1);
    }
    std::printf("%d\n", ntohs(address.sin_port));
    std::fflush(stdout);
    poll_ = epoll_create1(0);
    watch(listener_);
  }

  [[noreturn]] void run() {
    epoll_event events[256];
    for (;;) {
      const int count = epoll_wait(poll_, events, 256, -1);
      for (int i = 0; i < count; ++i) {
        if (events[i].data.fd == listener_) {
          accept_all();
        } else if (!serve(events[i].data.fd)) {
          input_.erase(events[i].data.fd);
          close(events[i].data.fd);
        }
      }
    }
  }

 private:
  void watch(int fd) {
    epoll_event wanted{};
    wanted.events = EPOLLIN;
    wanted.data.fd = fd;
    epoll_ctl(poll_, EPOLL_CTL_ADD, fd, &wanted);
  }

  void accept_all() {
    for (int fd; (fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK)) >= 0;) {
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      watch(fd);
    }
  }

  bool serve(int fd) {
    char buffer[65536];
    const ssize_t got = recv(fd, buffer, sizeof buffer, 0);
    if (got <= 0) return false;
    std::string& in = input_[fd];
    in.append(buffer, static_cast<size_t>(got));
    while (const size_t length = request_length(in)) {
      in.erase(0, length);
      for (const std::string& segment : answer_) {
        if (!write_all(fd, segment)) return false;
      }
    }
    return true;
  }

  std::vector<std::string> answer_;
  std::unordered_map<int, std::string> input_;
  int listener_ = -1;
  int poll_ = -1;
};

}  // namespace

int main(int argc, char** argv) {
  Server(argc > 1 && std::string_view(argv[1]) == "apart").run();
}
