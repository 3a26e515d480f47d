# The service on ECS, with scaling, alarms and an export of the dead letters every day.

terraform {
  required_version = ">= 1.3"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "image" {
  description = "Image of the worker by digest, as make image-push and README.md create it."
  type        = string
}

variable "image_repository_arn" {
  description = "ARN of its ECR repository; empty for other registries."
  type        = string
  default     = ""
}

variable "vpc_id" {
  description = "VPC of the tasks."
  type        = string
}

variable "subnet_ids" {
  description = "Two or more private subnets of the VPC."
  type        = list(string)
}

variable "topic_arn" {
  description = "SNS topic for alarms; empty for no notification."
  type        = string
  default     = ""
}

module "aup_worker" {
  source = "../"

  service = {
    image                = var.image
    image_repository_arn = var.image_repository_arn
    vpc_id               = var.vpc_id
    subnet_ids           = var.subnet_ids
    export_schedule      = "rate(1 day)"
  }

  alarms = {
    topic_arn = var.topic_arn
  }

  tags = {
    service = "aup-worker"
  }
}

output "environment" {
  description = "Settings of every verb of aup-worker; eval it in a shell."
  value       = module.aup_worker.environment
}

output "publish" {
  description = "Publishes a version of a policy."
  value       = module.aup_worker.publish
}

output "push" {
  description = "Sends one acceptance."
  value       = module.aup_worker.push
}

output "replay" {
  description = "Shows what a replay of the dead letters would do; replays them without --dry-run."
  value       = module.aup_worker.replay
}

output "logs" {
  description = "Follows the logs."
  value       = module.aup_worker.logs
}

output "dashboard_url" {
  description = "Dashboard in CloudWatch."
  value       = module.aup_worker.dashboard_url
}
