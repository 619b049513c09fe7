#include "cluster/peers.h"

namespace pyralog::cluster {

Peers::~Peers() = default;

io::Task<Result<std::unique_ptr<Peers>>> Peers::open(io::Shards shards, Options options) {
  std::unique_ptr<Peers> self(new Peers(std::move(shards)));
  auto bound = co_await io::Shard::current().net().listen(options.listen);
  if (!bound) {
    bound.error().message += "; choose another --peer";
    co_return fail(std::move(bound.error()));
  }
  std::vector<peer::Service*> services;
  for (io::Shard* shard : self->shards_) {
    auto side = std::make_unique<Side>();
    peer::Links::Options links{
        options.local, static_cast<std::int32_t>(shard->index()), options.channel, {}};
    side->links = std::make_unique<peer::Links>(std::move(links));
    peer::Service::Options service;
    service.channel = options.channel;
    side->service = std::make_unique<peer::Service>(service);
    services.push_back(side->service.get());
    self->sides_.push_back(std::move(side));
  }
  peer::Acceptor::Options acceptor{options.local};
  self->acceptor_ = std::make_unique<peer::Acceptor>(std::move(*bound), self->shards_,
                                                     std::move(services), std::move(acceptor));
  co_return self;
}

io::Task<void> Peers::set_peers(std::map<NodeId, io::Address> peers) {
  if (peers == known_) co_return;
  known_ = std::move(peers);
  for (io::Shard* shard : shards_) {
    co_await io::on(*shard, [this, shard, wanted = known_]() -> io::Task<void> {
      links(shard->index()).set_peers(wanted);
      co_return;
    });
  }
}

io::Task<void> Peers::admit_again() {
  acceptor_->admit_again();
  for (io::Shard* shard : shards_) {
    co_await io::on(*shard, [this, shard]() -> io::Task<void> {
      links(shard->index()).admit_again();
      co_return;
    });
  }
}

io::Task<void> Peers::set_cluster(Uuid cluster) {
  acceptor_->set_cluster(cluster);
  for (io::Shard* shard : shards_) {
    co_await io::on(*shard, [this, shard, cluster]() -> io::Task<void> {
      links(shard->index()).set_cluster(cluster);
      co_return;
    });
  }
}

io::Task<void> Peers::stop() {
  for (io::Shard* shard : shards_) {
    co_await io::on(*shard, [this, shard] { return links(shard->index()).stop(); });
  }
  co_await acceptor_->stop();
  co_await tasks_.join();
}

}  // namespace pyralog::cluster
