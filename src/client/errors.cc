#include "client/errors.h"

namespace pyralog::client {

namespace {

using enum KafkaError;

constexpr ErrorTraits kTraits[] = {
    {kUnknownServerError, "the server failed; its log says why", Code::kIo, false, false, false},
    {kNone, "no error", Code::kUnavailable, false, false, false},
    {kOffsetOutOfRange, "the offset is outside of the log", Code::kOutOfRange, false, false, false},
    {kCorruptMessage, "the records were damaged on the way", Code::kCorrupt, true, false, false},
    {kUnknownTopicOrPartition, "there is no such topic or partition; create it, or check the name",
     Code::kNotFound, true, true, false},
    {kInvalidFetchSize, "the fetch size is impossible", Code::kInvalidArgument, false, false,
     false},
    {kLeaderNotAvailable, "the partition has no leader now", Code::kUnavailable, true, true, false},
    {kNotLeaderOrFollower, "the server does not lead the partition", Code::kUnavailable, true, true,
     false},
    {kRequestTimedOut, "the server could not finish in time", Code::kTimedOut, true, false, false},
    {kMessageTooLarge, "the records are larger than max.message.bytes", Code::kTooLarge, false,
     false, false},
    {kOffsetMetadataTooLarge, "the text beside the offset is too long", Code::kTooLarge, false,
     false, false},
    {kCoordinatorLoadInProgress, "the group's coordinator is loading", Code::kUnavailable, true,
     false, false},
    {kCoordinatorNotAvailable, "the group has no coordinator now", Code::kUnavailable, true, false,
     true},
    {kNotCoordinator, "the server does not coordinate the group", Code::kUnavailable, true, false,
     true},
    {kInvalidTopicException, "the topic's name is not allowed; use 1 to 249 of a-z A-Z 0-9 . _ -",
     Code::kInvalidArgument, false, false, false},
    {kRecordListTooLarge, "the batch is larger than a segment", Code::kTooLarge, false, false,
     false},
    {kNotEnoughReplicas, "too few replicas are there to accept records", Code::kUnavailable, true,
     false, false},
    {kNotEnoughReplicasAfterAppend, "too few replicas have stored the records", Code::kUnavailable,
     true, false, false},
    {kInvalidRequiredAcks, "acks is none of 0, 1 and -1", Code::kInvalidArgument, false, false,
     false},
    {kIllegalGeneration, "the group has moved on to another generation", Code::kFenced, false,
     false, false},
    {kInconsistentGroupProtocol, "the group's members share no assignor with this one",
     Code::kInvalidArgument, false, false, false},
    {kInvalidGroupId, "the group's name is not allowed", Code::kInvalidArgument, false, false,
     false},
    {kUnknownMemberId, "the group does not know this member", Code::kFenced, false, false, false},
    {kInvalidSessionTimeout, "the session timeout is outside of what the server allows",
     Code::kInvalidArgument, false, false, false},
    {kRebalanceInProgress, "the group is rebalancing", Code::kUnavailable, true, false, false},
    {kInvalidCommitOffsetSize, "the commit is too large", Code::kTooLarge, false, false, false},
    {kTopicAuthorizationFailed, "access to the topic is denied", Code::kFenced, false, false,
     false},
    {kClusterAuthorizationFailed, "access to the cluster is denied", Code::kFenced, false, false,
     false},
    {kInvalidTimestamp, "a timestamp is outside of what the topic allows", Code::kInvalidArgument,
     false, false, false},
    {kUnsupportedVersion, "the server does not speak this version", Code::kUnsupported, false,
     false, false},
    {kTopicAlreadyExists, "exists already; choose another name, or alter it", Code::kAlreadyExists,
     false, false, false},
    {kInvalidPartitions, "the number of partitions is impossible", Code::kInvalidArgument, false,
     false, false},
    {kInvalidReplicationFactor, "there are not as many servers as replicas", Code::kInvalidArgument,
     false, false, false},
    {kInvalidReplicaAssignment, "the replica assignment is impossible", Code::kInvalidArgument,
     false, false, false},
    {kInvalidConfig, "a setting is not known or its value impossible", Code::kInvalidArgument,
     false, false, false},
    {kNotController, "the server is not the controller", Code::kUnavailable, true, true, false},
    {kInvalidRequest, "the server finds the request contradictory", Code::kInvalidArgument, false,
     false, false},
    {kUnsupportedForMessageFormat, "the record format does not allow it", Code::kUnsupported, false,
     false, false},
    {kPolicyViolation, "the server's policy forbids it", Code::kInvalidArgument, false, false,
     false},
    {kOutOfOrderSequenceNumber, "the server missed an earlier batch of this producer",
     Code::kFenced, false, false, false},
    {kDuplicateSequenceNumber, "the batch was stored before", Code::kAlreadyExists, false, false,
     false},
    {kInvalidProducerEpoch, "a newer producer has taken over", Code::kFenced, false, false, false},
    {kInvalidTxnState, "transactions are not in this state", Code::kInvalidArgument, false, false,
     false},
    {kKafkaStorageError, "the partition is offline, or the server's disk is full; its log says why",
     Code::kIo, true, true, false},
    {kUnknownProducerId, "the server has forgotten this producer", Code::kFenced, false, false,
     false},
    {kNonEmptyGroup, "the group still has members; stop them first", Code::kAlreadyExists, false,
     false, false},
    {kGroupIdNotFound, "there is no such group; check the name", Code::kNotFound, false, false,
     false},
    {kFetchSessionIdNotFound, "the fetch session has ended", Code::kUnavailable, true, false,
     false},
    {kInvalidFetchSessionEpoch, "the fetch session is elsewhere", Code::kUnavailable, true, false,
     false},
    {kFencedLeaderEpoch, "the partition has a newer leader", Code::kUnavailable, true, true, false},
    {kUnknownLeaderEpoch, "the server does not know the partition's leader yet", Code::kUnavailable,
     true, true, false},
    {kUnsupportedCompressionType, "the server does not read this compression", Code::kUnsupported,
     false, false, false},
    {kOffsetNotAvailable, "the partition's end is not known yet", Code::kUnavailable, true, false,
     false},
    {kMemberIdRequired, "the member needs the id that the server gave it", Code::kUnavailable, true,
     false, false},
    {kPreferredLeaderNotAvailable, "the preferred replica cannot lead now", Code::kUnavailable,
     true, true, false},
    {kEligibleLeadersNotAvailable, "no replica can lead now", Code::kUnavailable, true, true,
     false},
    {kElectionNotNeeded, "the partition is led as was asked", Code::kAlreadyExists, false, false,
     false},
    {kNoReassignmentInProgress, "the partition's replicas are not being moved", Code::kNotFound,
     false, false, false},
    {kReassignmentInProgress, "the partition's replicas are being moved already",
     Code::kAlreadyExists, false, false, false},
    {kBrokerIdNotRegistered, "there is no such node; look at pyralog cluster status",
     Code::kNotFound, false, false, false},
    {kGroupMaxSizeReached, "the group is full", Code::kExhausted, false, false, false},
    {kFencedInstanceId, "another member with this instance id has joined", Code::kFenced, false,
     false, false},
    {kInvalidRecord, "the server refused a record", Code::kInvalidArgument, false, false, false},
    {kUnstableOffsetCommit, "a transaction over these offsets is open", Code::kUnavailable, true,
     false, false},
    {kThrottlingQuotaExceeded, "the quota is used up", Code::kUnavailable, true, false, false},
    {kGroupSubscribedToTopic, "the group's members read the topic; stop them first",
     Code::kAlreadyExists, false, false, false},
    {kProducerFenced, "a newer producer has taken over", Code::kFenced, false, false, false},
    {kUnknownTopicId, "there is no topic with this id", Code::kNotFound, true, true, false},
    {kInconsistentTopicId, "the topic was deleted and created anew", Code::kNotFound, true, true,
     false},
    {kFetchSessionTopicIdError, "the fetch session names topics another way", Code::kUnavailable,
     true, false, false},
};

}  // namespace

const ErrorTraits& traits_of(KafkaError error) {
  for (const ErrorTraits& traits : kTraits) {
    if (traits.error == error) return traits;
  }
  return kTraits[0];
}

Error to_error(std::string_view thing, std::int16_t code, const std::optional<std::string>& said) {
  const ErrorTraits& traits = traits_of(code);
  std::string message = std::string(thing) + ": ";
  std::string_view what = said && !said->empty() ? std::string_view(*said) : traits.text;
  if (what.starts_with(message)) what.remove_prefix(message.size());
  message += what;
  return {traits.code, message + " (error " + std::to_string(code) + ")", 0};
}

bool is_retriable(const Error& error) {
  switch (error.code) {
    case Code::kUnavailable:
    case Code::kTimedOut:
    case Code::kIo:
    case Code::kCancelled:
      return true;
    case Code::kInvalidArgument:
    case Code::kNotFound:
    case Code::kAlreadyExists:
    case Code::kOutOfRange:
    case Code::kCorrupt:
    case Code::kUnsupported:
    case Code::kFenced:
    case Code::kTooLarge:
    case Code::kExhausted:
      break;
  }
  return false;
}

}  // namespace pyralog::client
